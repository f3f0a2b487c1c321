"""Where a photo's defects are: connected parts of its map above the pixel threshold."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Region(NamedTuple):
    """Connected pixels, also over corners. Pixels are those of the photo, from its top left."""

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
      pixel_threshold: a pixel above it belongs to a region; None: there are none.
      size: (width, height) of the photo.
    """
    if pixel_threshold is None:
        return []
    labels, _ = ndimage.label(anomaly_map > pixel_threshold, np.ones((3, 3)))
    scale = np.array([size[1], size[0]]) / anomaly_map.shape  # of rows, and of columns
    found = []
    for number, spans in enumerate(ndimage.find_objects(labels), 1):
        inside = np.where(labels[spans] == number, anomaly_map[spans], -np.inf)
        first, last = np.array([(s.start, s.stop) for s in spans]).T
        peak = np.unravel_index(inside.argmax(), inside.shape)
        y, x = np.int64((first + peak + 0.5) * scale).tolist()
        (top, left), (bottom, right) = (
            np.floor(first * scale).astype(int).tolist(),
            np.ceil(last * scale).astype(int).tolist(),
        )
        area = np.isfinite(inside).sum() * scale.prod()
        found.append(
            Region(
                box=(left, top, right - left, bottom - top),
                area=max(round(float(area)), 1),
                peak=float(inside.max()),
                peak_at=(x, y),
            )
        )
    return sorted(found, key=lambda region: -region.peak)
