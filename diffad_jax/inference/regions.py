"""Where a photo's defects are: connected parts of its map above the pixel threshold.

Exported models carry a copy of this file, so it needs NumPy alone.
"""

from typing import NamedTuple

import numpy as np

MOST_LISTED = 100  # of a photo in tables: noise has no end of them


class Region(NamedTuple):
    """Connected pixels, also over corners, in pixels of the photo from its top left."""

    box: tuple[int, int, int, int]  # x, y, width, height of the least box that holds them
    area: int  # pixels
    peak: float  # the map's largest value in it
    peak_at: tuple[int, int]  # x, y of that value


def find(
    anomaly_map: np.ndarray, pixel_threshold: float | None, size: tuple[int, int]
) -> list[Region]:
    """The regions of a photo, the one with the highest peak first.

    Args:
      anomaly_map: [a, b] float32; stretched over the photo.
      pixel_threshold: a pixel above it belongs to a region; with None there is no region.
      size: (width, height) of the photo.
    """
    if pixel_threshold is None:
        return []
    above = anomaly_map > pixel_threshold
    rows, begins, ends = _runs(above)
    if not len(rows):
        return []
    labels = _connected(rows, begins, ends, above.shape[1])
    scale = np.array([size[1], size[0]]) / above.shape  # of rows, and of columns
    lengths = ends - begins
    of_pixel, values = np.repeat(labels, lengths), anomaly_map[above]
    peaks = np.full(labels.max() + 1, -np.inf)
    np.maximum.at(peaks, labels, np.maximum.reduceat(values, np.cumsum(lengths) - lengths))
    highest = np.flatnonzero(values == peaks[of_pixel])
    highest = highest[np.unique(of_pixel[highest], return_index=True)[1]]  # the first of each
    peaks_at = np.int64((np.argwhere(above)[highest] + 0.5) * scale)
    first = _least(labels, np.stack([rows, begins], axis=-1))
    last = -_least(labels, -np.stack([rows + 1, ends], axis=-1))
    first = np.floor(first * scale).astype(int)
    extents = np.ceil(last * scale).astype(int) - first
    areas = np.maximum(np.round(np.bincount(labels, lengths) * scale.prod()), 1).astype(int)
    found = [
        Region(box=(left, top, width, height), area=area, peak=peak, peak_at=(x, y))
        for (top, left), (height, width), area, peak, (y, x) in zip(
            *(each.tolist() for each in (first, extents, areas, peaks, peaks_at)), strict=True
        )
    ]
    return sorted(found, key=lambda region: -region.peak)


def _runs(above: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The row, the first column and the column behind the last of each run of true pixels."""
    steps = np.diff(np.pad(np.int8(above), ((0, 0), (1, 1))), axis=1)
    (rows, begins), (_, ends) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    return rows, begins, ends


def _connected(rows: np.ndarray, begins: np.ndarray, ends: np.ndarray, width: int) -> np.ndarray:
    """The number of each run's region, in the order in which they begin."""
    # A run touches a part of the next row's runs, which are sorted: from one place to another.
    row = width + 2
    from_ = np.searchsorted(rows * row + ends, (rows + 1) * row + begins, "left")
    to = np.searchsorted(rows * row + begins, (rows + 1) * row + ends, "right")
    touched = np.maximum(to - from_, 0)
    upper = np.repeat(np.arange(len(rows)), touched)
    before = np.cumsum(touched) - touched
    lower = np.arange(len(upper)) - np.repeat(before - from_, touched)
    parent = np.arange(len(rows))
    while len(upper):
        roots = np.sort([parent[upper], parent[lower]], axis=0)
        apart = roots[0] < roots[1]
        upper, lower, roots = upper[apart], lower[apart], roots[:, apart]
        np.minimum.at(parent, roots[1], roots[0])
        while (parent[parent] != parent).any():
            parent = parent[parent]
    return np.unique(parent, return_inverse=True)[1]


def _least(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[n], [n, 2] -> [number of labels, 2]: the least values of each label."""
    least = np.full((labels.max() + 1, 2), np.iinfo(np.int64).max)
    np.minimum.at(least, labels, values)
    return least
