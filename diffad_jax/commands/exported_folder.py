"""What commands do with an exported folder in the place of a work directory."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import ml_collections

from diffad_jax.commands.predict import How, Judge, predict_photos
from diffad_jax.commands.predict_products import predict_products
from diffad_jax.config import stored
from diffad_jax.errors import ConfigError
from diffad_jax.export import artifact, registry
from diffad_jax.export.exported import ExportedDetector, calibration_of
from diffad_jax.inference.products import Distances, Products
from diffad_jax.methods.registry import get_method

_FREE = ("categories", "evaluation.batch_size", "data.photo_mib")  # of a graph's config


class Opened(NamedTuple):
    """An exported category."""

    detector: ExportedDetector
    card: dict[str, Any]


def open_all(config: ml_collections.ConfigDict, folders: Mapping[str, Path]) -> dict[str, Opened]:
    """The exported ``config.categories``.

    Args:
      config: that of the cards, with other bounds for a batch and for photos at the most.
      folders: of ``registry.exported``.

    Raises:
      ConfigError: one of them is not there, or damaged; its runtime is not installed; the config
        asks for another graph.
    """
    return {category: _open(config, folders, category) for category in config.categories}


@contextlib.contextmanager
def damage_told() -> Iterator[None]:
    """Turns an ArtifactError, whose module goes out with exports alone, into a ConfigError."""
    try:
        yield
    except artifact.ArtifactError as error:
        raise ConfigError(str(error)) from error


def _open(config: ml_collections.ConfigDict, folders: Mapping[str, Path], category: str) -> Opened:
    if category not in folders:
        raise ConfigError(
            f"--config.categories: {category} was not exported there, but {', '.join(folders)}"
        )
    folder = folders[category]
    inside = stored.flat(stored.of_card(folder / artifact.CARD))
    for name, value in stored.flat(config).items():
        if name not in _FREE and inside.get(name) != value:
            raise ConfigError(
                f"config.{name} = {value!r}, but the graph in {folder} was exported with "
                f"{inside.get(name)!r}: leave it and --config away"
            )
    own = config.copy_and_resolve_references()
    own.categories = (category,)
    with damage_told():
        card = artifact.read_card(folder)
        detect, named = registry.load(folder, card), registry.tensors(folder, card)
    weights = flax.traverse_util.unflatten_dict(named, sep="/") if named else None
    own = ml_collections.FrozenConfigDict(own)
    return Opened(ExportedDetector(own, card["weights"], detect, weights), card)


def products(config: ml_collections.ConfigDict, opened: Mapping[str, Opened]) -> Products | None:
    """What tells the photos of several categories apart; None where the folders do not hold it."""
    if get_method(config).tell(ml_collections.FrozenConfigDict(config)) is None:
        return None
    if not all(each.detector.weights and each.card.get("likeness") for each in opened.values()):
        return None
    detectors = {category: each.detector for category, each in opened.items()}
    farthest = [each.card["likeness"]["farthest"] for each in opened.values()]
    return Products(Distances(config), detectors, farthest)


def predict(
    config: ml_collections.ConfigDict, workdir: Path, source: Path, output: Path, how: How
) -> None:
    """Scores photos by the exported graphs, as ``predict_photos`` or ``predict_products`` do.

    Raises:
      ConfigError: a flag needs the work directory; nothing in the folder tells its categories
        apart; see ``open_all``.
    """
    if how.tile or "reconstruction" in how.save:
        flag = "--tile" if how.tile else "--save=reconstruction"
        raise ConfigError(
            f"{flag}: the graph in {workdir} gives scores and maps of whole photos; name the work "
            "directory that it came from"
        )
    opened = open_all(config, registry.exported(workdir))
    judges = {
        category: Judge(each.detector, calibration_of(each.card, how.threshold))
        for category, each in opened.items()
    }
    if len(opened) == 1:
        predict_photos(config, workdir, source, output, how, *judges.values())
        return
    told = products(config, opened)
    if told is None:
        raise ConfigError(
            f"nothing in {workdir} tells its categories apart (a --format=stablehlo of all of them "
            f"would, where the work directory does): name one, "
            f"--config.categories={config.categories[0]}"
        )
    predict_products(config, workdir, source, output, how, told, judges)
