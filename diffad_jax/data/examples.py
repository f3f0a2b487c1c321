"""The sources of a config's photos and training examples."""

import logging
from collections.abc import Iterator, Mapping

import ml_collections

from diffad_jax.data import advice, labels, layouts, recorded, split, toy
from diffad_jax.data.split import Split
from diffad_jax.types import Batch, height_width

logger = logging.getLogger(__name__)
Config = ml_collections.ConfigDict | ml_collections.FrozenConfigDict


def prepare(config: Config) -> None:
    """Checks every category before the first one takes hours; writes the toy category.

    Raises:
      layouts.DataError: a category is missing or empty.
    """
    write_toy(config)
    c = config.data
    for category in config.categories:
        records = layouts.read_category(c.root, category, c.layout)
        normal = [r for r in records if r.split == "train"]
        held_out = layouts.split_validation(normal, c.validation_share, config.seed)[1]
        rate = config.evaluation.false_alarm_rate
        for sentence in advice.few_photos(len(normal), len(held_out), rate, c.validation_share):
            logger.warning("%s: %s", category, sentence)


def write_toy(config: Config) -> None:
    """Writes the toy category, where the config asks for it."""
    if config.data.layout == "toy":
        side = max(height_width(config.image_size))
        toy.write_category(config.data.root, seed=0, image_size=side)


def batches(
    config: Config, photos: Mapping[str, Split], part: str, batch_size: int, **share: int | str
) -> Iterator[Batch]:
    """Examples from the config's recording, or else made of the photos.

    Args:
      config: the whole config.
      photos: the normal photos of each category that is learned from. Live examples are of one
        after the other, those of a recording as they are drawn from all.
      part: ``train`` or ``validation``.
      batch_size: of all processes together.
      **share: ``start_step``, ``process_index``, ``process_count`` and ``stage``, see
        ``pipeline.batches``.
    """
    if config.data.recorded:
        return recorded.batches(config, tuple(photos), split=part, batch_size=batch_size, **share)
    # Imported here: evaluation and recorded training run where TensorFlow is not installed.
    from diffad_jax.data import pipeline

    # Where none is held out, a stage is validated on the photos that it trains on.
    parts = [p.train if part == "train" or not p.held_out else p.held_out for p in photos.values()]
    files = [split.paths(config, own) for own in parts]
    first = next(iter(photos))
    found = pipeline.batches(config, first, split=part, batch_size=batch_size, files=files, **share)
    if config.shared_label == "none":
        return found
    share.pop("stage", None)
    return labels.labelled(found, tuple(photos), batch_size, **share)
