"""Overlapping windows that cover a photo, and their weights where they overlap."""

import numpy as np


def starts(length: int, side: int) -> list[int]:
    """Where windows begin along one axis: evenly, so that neighbours share a quarter or more."""
    step = side - side // 4
    count = 1 + max(-(-(length - side) // step), 0)
    return np.round(np.linspace(0, max(length - side, 0), count)).astype(int).tolist()


def weights(length: int, side: int, starts: list[int]) -> np.ndarray:
    """[windows, min(side, length)] float32: the weight of each window at its pixels.

    Weights add up to 1 at every pixel. The product along both axes is the weight in the photo. Each
    window counts by the distance to its own border, because a network sees least there.
    """
    tent = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)).astype(np.float32)[:length]
    total = np.zeros(length, np.float32)
    for start in starts:
        total[start : start + side] += tent
    return np.stack([tent / total[start : start + side] for start in starts])
