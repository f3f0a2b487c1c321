"""Pictures to measure with where no data set is at hand."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw(rng: np.random.Generator, size: int) -> Image.Image:
    """A smooth, slightly grainy picture of random colours: RGB, size × size."""
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-6, 7, (size, size, 1), np.int16)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def write_folder(folder: Path, count: int, size: int, suffix: str, seed: int) -> None:
    """``count`` different pictures 0000…, 0001…: PNG or JPEG, as ``suffix`` says."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        draw(rng, size).save(folder / f"{i:04d}{suffix}")
