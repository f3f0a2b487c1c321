"""Cuts a large photo into windows at its own resolution, and puts their results together."""

import numpy as np
from jaxtyping import Float32, UInt8

from diffad_jax.methods.windows import starts, weights


class Tiles:
    """A photo cut into overlapping windows, and the blend of their results.

    Windows lie evenly and overlap their neighbours by a quarter of a side or more. The outer ones
    end at the photo's borders. A photo smaller than a window is continued by its mirror image,
    which the blend leaves out. Where windows overlap, each counts by the distance to its own
    border, because a network sees least there.
    """

    def __init__(self, photo: UInt8[np.ndarray, "h w 3"], window: tuple[int, int]):
        """``window``: (height, width) in pixels."""
        self._window = window
        height, width = photo.shape[:2]
        missing = [(0, max(side - n, 0)) for side, n in zip(window, (height, width), strict=True)]
        self._photo = np.pad(photo, (*missing, (0, 0)), "symmetric") if np.any(missing) else photo
        self._shape = height, width
        self._rows, self._columns = starts(height, window[0]), starts(width, window[1])
        self._row_weights = weights(height, window[0], self._rows)
        self._column_weights = weights(width, window[1], self._columns)
        self.blend: Float32[np.ndarray, "h w c"] | None = None  # as large as the photo

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    def window(self, i: int) -> UInt8[np.ndarray, "_ _ 3"]:
        """Row by row from the top left."""
        row, column = divmod(i, len(self._columns))
        return self._photo[self._span(0, self._rows[row]), self._span(1, self._columns[column])]

    def add(self, i: int, found: Float32[np.ndarray, "_ _ c"]) -> None:
        """Adds the result of window i to the blend; once for each window."""
        row, column = divmod(i, len(self._columns))
        down, right = self._span(0, self._rows[row]), self._span(1, self._columns[column])
        if self.blend is None:
            self.blend = np.zeros((*self._shape, found.shape[-1]), np.float32)
        weight = np.outer(self._row_weights[row], self._column_weights[column])
        self.blend[down, right] += weight[..., None] * found[: len(weight), : len(weight[0])]

    def _span(self, axis: int, start: int) -> slice:
        return slice(start, start + self._window[axis])
