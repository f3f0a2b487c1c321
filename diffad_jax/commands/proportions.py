"""The proportions in which the networks see photos, where the photos themselves decide them."""

import math
from pathlib import Path

import ml_collections
import numpy as np

from diffad_jax.config import stored
from diffad_jax.data import images, layouts, recorded
from diffad_jax.data.images import ImageError
from diffad_jax.errors import ConfigError
from diffad_jax.methods.sizes import multiples_that_fit
from diffad_jax.runtime import console

_NEARLY_SQUARE = 1.1  # longer to shorter side
_ALIKE = 1.1  # largest to smallest proportion of the middle half of the photos
_MOST_PHOTOS = 200  # that are looked at, spread over all


def settle(config: ml_collections.ConfigDict, workdir: Path | None) -> None:
    """Makes ``config.image_size`` (height, width) where ``config.data.proportions`` asks for it.

    The size has as many pixels as the square and the proportions of the normal photos, rounded to
    what the networks take. A size of an earlier training in ``workdir``, or of a recording, stays.
    Photos of several proportions become squares, and so do nearly square ones.
    """
    if config.data.proportions == "square" or not isinstance(config.image_size, int):
        return
    if workdir is not None and (known := _known(config, workdir)):
        config.image_size = known
        return
    if config.data.recorded:
        size = recorded.Recording(config.data.recorded).meta["config"]["image_size"]
        config.image_size = size if isinstance(size, int) else tuple(size)
        return
    ratio = _proportion(config)
    if max(ratio, 1.0 / ratio) < _NEARLY_SQUARE:
        return
    side = config.image_size
    found = multiples_that_fit(config, (side * math.sqrt(ratio), side / math.sqrt(ratio)))
    if found is None:
        raise ConfigError(
            f"config.data.proportions = 'photos': no size of the proportions 1 : {ratio:.2g} suits "
            "the networks; take 'square'"
        )
    config.image_size = found
    console.note(f"photos are seen at {found[1]} × {found[0]} pixels, in their own proportions")


def _known(config: ml_collections.ConfigDict, workdir: Path) -> int | tuple[int, int] | None:
    """The size of the first category that was trained there."""
    for category in config.categories:
        try:
            return stored.read(workdir / category).image_size
        except ConfigError:
            continue
    return None


def _proportion(config: ml_collections.ConfigDict) -> float:
    """Height to width of most normal photos; 1 where they differ."""
    rules, found = images.rules(config.data), []
    for category in config.categories:
        train, held_out = layouts.normal_photos(config, category)
        files = [record.file for record in (*train, *held_out)]
        for file in files[:: -(-len(files) // _MOST_PHOTOS)]:
            try:
                width, height = images.photo_size(file, rules)
            except ImageError:
                continue  # who trains on it says so
            found.append(height / width)
    low, middle, high = np.quantile(found, [0.25, 0.5, 0.75]) if found else (1.0, 1.0, 1.0)
    if high / low > _ALIKE:
        console.note("photos are seen as squares, since their proportions differ")
        return 1.0
    return float(middle)
