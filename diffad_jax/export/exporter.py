"""A trained category as a folder that needs neither this project nor the work directory."""

import inspect
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

from diffad_jax.convert.exporter import export_category
from diffad_jax.data import photo, pictures
from diffad_jax.errors import UserError
from diffad_jax.export import artifact, card, quantized, run
from diffad_jax.export.errors import ExportError
from diffad_jax.export.exported import ExportedDetector
from diffad_jax.export.graph import Model, weights_by_name
from diffad_jax.export.registry import FORMATS
from diffad_jax.inference import products, regions
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.computing import compute_dtype
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import cells, checksums, console, files, regular

PUBLISHED = "published"
NAMES = (*FORMATS, PUBLISHED)
_SHARED = Path(artifact.SHARED).name


def export(
    config: ml_collections.ConfigDict,
    workdir: Path,
    output: Path,
    format_name: str,
    quantize: str | None = None,
    max_changed: float = 0.01,
) -> None:
    """Writes ``output / CATEGORY`` for every category, whole or not at all.

    Args:
      config: must agree with the trained one.
      workdir: holds trained stages.
      output: gets a folder for each category.
      format_name: one of ``NAMES``; ``published`` writes the published PyTorch code's own files.
      quantize: ``int8`` for convolutions in 8 bits, with ``quantization.json`` beside the graph.
      max_changed: the largest share of verdicts that this may change.

    Raises:
      ExportError: a folder is there already; the format needs a package that is not installed, or
        does not know what the config asks for; 8 bits change too many verdicts.
      convert.errors.ConvertError: ``published`` has no counterpart for a field of the config.
      checkpoint.CheckpointError: a stage is missing, unfinished, or of another config.
      layouts.DataError: no threshold is stored, and there are no photos to choose it on.
    """
    if quantize and (format_name == PUBLISHED or FORMATS[format_name].write_int8 is None):
        names = " and ".join(name for name, each in FORMATS.items() if each.write_int8)
        raise ExportError(f"--quantize={quantize} is for --format={names}, not {format_name}")
    files.remove_leftovers(output)
    several = len(config.categories) > 1 and format_name != PUBLISHED
    common = frozenset()
    if several and FORMATS[format_name].common:
        if _SHARED in config.categories:
            raise ExportError(
                f"config.categories: {_SHARED!r} is the folder of what categories have in common; "
                "export that one alone"
            )
        common = _in_common(config, workdir)
    for category in config.categories:
        folder = output / category
        if folder.exists():
            raise ExportError(f"{folder} is there already: choose another --output or delete it")
        with files.whole(folder) as temporary:
            temporary.mkdir()
            shared = []
            if format_name == PUBLISHED:
                export_category(config, workdir, category, temporary)
            else:
                shared = _export(
                    config, workdir, category, temporary, format_name, quantize, max_changed,
                    common,
                )  # fmt: skip
            artifact.write_checksums(temporary, shared)
        console.say(f"{category}: {format_name} in {folder}")


def _export(
    config: ml_collections.ConfigDict,
    workdir: Path,
    category: str,
    folder: Path,
    name: str,
    quantize: str | None,
    max_changed: float,
    common: frozenset[str],
) -> list[str]:
    """Gives the files that lie in ``artifact.SHARED``."""
    chosen, variant = FORMATS[name], ""
    detector = inspected = Detector.from_workdir(config, workdir, category)
    if chosen.dtype and chosen.dtype != compute_dtype(config):
        # Scores differ, so the threshold is chosen again.
        config, variant = computing_in(config, chosen.dtype), chosen.dtype
        detector = Detector(config, detector.weights)
    model = Model(detector.config, workdir, category, weights_by_name(detector), common)
    if quantize:
        photos = quantized.photos_of_ranges(config, workdir, category)
        chosen.write_int8(model, folder, photos)
    else:
        chosen.write(model, folder)
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    judge, of_graph = detector, variant
    if quantize or not chosen.exact:
        judge = ExportedDetector.of_graph(detector, chosen.load, folder)
        of_graph = f"{name}_{quantize}" if quantize else name
    calibration = load_or_choose(config, workdir, category, judge, variant=of_graph)
    if inspected.taken:  # no inspector has seen the graph's results for accepted photos
        counts = load_or_choose(inspected.config, workdir, category, inspected)
        calibration = calibration.at_least(counts)
    content = card.make(model, name, chosen, detector.weights_hash, calibration)
    shared = [_moved(folder, file) for file in chosen.common if common and file in files]
    own = [file for file in files if (folder / file).exists()]
    content |= {"files": own + shared, "quantization": None}
    content["likeness"] = _likeness(config, workdir, category, detector) if common else None
    if quantize:
        of_detector = load_or_choose(config, workdir, category, detector, variant=variant)
        before = quantized.Judged(detector, of_detector)
        after = quantized.Judged(judge, calibration)
        report = quantized.compare(config, workdir, category, before, after)
        quantized.refuse(report, max_changed)
        report |= quantized.cost(chosen, model, detector, folder, photos)
        quantized.write(report, folder)
        content["quantization"] = {"dtype": quantize, "verdicts": report["verdicts"]}
    card.write(folder, content, chosen.readme, runs=chosen.load is not None)
    if chosen.load is not None:
        _carry(folder, chosen.load)
    return shared


def _likeness(
    config: ml_collections.ConfigDict, workdir: Path, category: str, detector: Detector
) -> dict[str, Any] | None:
    """How far photos of the category may be from it, for telling several apart; None without."""
    if get_method(config).tell(ml_collections.FrozenConfigDict(config)) is None:
        return None
    try:
        farthest = products.Distances(config).farthest(detector, workdir / category)
    except UserError as error:
        console.note(f"{category}: this export cannot tell its categories apart, since {error}")
        return None
    return {
        "farthest": farthest,
        "describe": "how far the farthest held-out photo is from this category's normal ones",
    }


def _in_common(config: ml_collections.ConfigDict, workdir: Path) -> frozenset[str]:
    """The names of tensors that are equal in all categories; these are loaded one by one."""
    every = []
    for category in config.categories:
        named = weights_by_name(Detector.from_workdir(config, workdir, category))
        every.append({(name, products.content(value)) for name, value in named.items()})
    return frozenset(name for name, _ in set.intersection(*every))


def _moved(folder: Path, name: str) -> str:
    """Puts a file of the folder into ``artifact.SHARED``, under a name by its content."""
    shared = f"{artifact.SHARED}{checksums.of_file(folder / name)[:16]}-{name}"
    if not (folder / shared).exists():
        with files.whole(folder / shared) as temporary:
            shutil.copyfile(folder / name, temporary)
    (folder / name).unlink()
    return shared


def computing_in(config: ml_collections.ConfigDict, dtype: str) -> ml_collections.ConfigDict:
    """A copy with another compute dtype, which fits the same weights."""
    changed = ml_collections.ConfigDict(config).copy_and_resolve_references()
    with changed.unlocked():
        changed.training.compute_dtype = dtype
    return changed


def _carry(folder: Path, load: Callable) -> None:
    """Writes ``run.py``, which ends in the format's ``load``, and what it imports."""
    for module in (run, artifact, cells, checksums, photo, pictures, regions, regular):
        text = Path(module.__file__).read_text(encoding="utf-8")
        # There they lie side by side.
        text = re.sub(r"^( *)from diffad_jax\.\w+ import", r"\1import", text, flags=re.MULTILINE)
        if module is run:
            end = 'if __name__ == "__main__":\n    main(Path(__file__).resolve().parent, load)\n'
            text += f"\n\n{_source(load)}\n\n{end}"
        (folder / Path(module.__file__).name).write_text(text, encoding="utf-8")


def _source(load: Callable) -> str:
    """The source of a format's ``load``, without the docstring that only fits this package."""
    text = inspect.getsource(load).replace('    """See ``contract.Format``."""\n', "")
    return text.replace("Detect:", "artifact.Detect:", 1)
