"""How many bits the camera fills, such as 10 or 12 of the 16 bits in its photos' files.

The number is found once, on the normal photos, and kept beside the weights. So a photo's brightness
does not depend on the folder that it lies in.
"""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import ml_collections
import numpy as np
from PIL import Image

from diffad_jax.data import images, photo
from diffad_jax.data.images import ImageError
from diffad_jax.data.photo import Rules
from diffad_jax.errors import ConfigError
from diffad_jax.runtime import files

FILE = "bit_depth.json"
_DEPTHS = (8, 10, 12, 14, 16)
_Config = TypeVar("_Config", ml_collections.ConfigDict, ml_collections.FrozenConfigDict)


def detect(paths: Sequence[str], rules: Rules) -> int:
    """The least of 8, 10, 12, 14 and 16 bits that holds all levels of these photos.

    Only the header is read of photos with 8 bits a channel. Unreadable photos are passed over:
    later readers report them.

    Args:
      paths: normal photos.
      rules: of ``config.data``; the bit depth in them is ignored.
    """

    def highest(image: Image.Image, rules: Rules) -> int:
        levels = photo.deep_levels(image)
        return 0 if levels is None else int(np.max(levels))

    def look(path: str) -> int:
        try:
            return images.decode(path, rules, highest)
        except ImageError:
            return 0

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        most = max(pool.map(look, paths), default=0)
    return next((d for d in _DEPTHS if most < 2**d), _DEPTHS[-1])


def stated(config: _Config, find: Callable[[], int]) -> _Config:
    """``config`` with its own bit depth, or else with the one that is found."""
    if config.data.bit_depth:
        return config
    changed = ml_collections.ConfigDict(config).copy_and_resolve_references()
    changed.data.bit_depth = find()
    return type(config)(changed)


def stored(config: _Config, directory: Path) -> _Config:
    """``config`` with the bit depth that the weights in ``directory`` were trained with.

    Raises:
      ConfigError: it names another.
    """
    depth = files.read_json(directory / FILE).get("bit_depth", 0)
    if depth and config.data.bit_depth not in (0, depth):
        raise ConfigError(
            f"config.data.bit_depth = {config.data.bit_depth}: the weights in {directory} were "
            f"trained on photos of {depth} bit: leave it away, or train anew"
        )
    return stated(config, lambda: depth)


def stored_or(config: _Config, directory: Path, find: Callable[[], int]) -> _Config:
    """Like ``stored``, but uses what ``find`` finds where nothing is stored yet."""
    return stated(stored(config, directory), find)


def settle(config: _Config, directory: Path, find: Callable[[], int]) -> _Config:
    """Like ``stored_or``, and stores the bit depth for all later work in ``directory``."""
    config = stored_or(config, directory, find)
    if not (directory / FILE).exists():
        content = json.dumps({"bit_depth": config.data.bit_depth})
        files.write_whole(directory / FILE, content + "\n")
    return config
