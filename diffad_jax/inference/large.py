"""A photo too large to be held, window by window: rows of windows, from top to bottom.

A map's row is final a few rows of windows later. Then it counts for the score, and is kept in
reduced form for the pictures.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from diffad_jax.inference.tiling import Tiles, starts, weights

_PICTURES = 16  # pictures have at most this share of the pixels that a photo may have


class LargePhoto:
    """Like ``tiling.Tiles``, for a photo that comes in strips.

    Windows are taken, and their maps added, in the order of their numbers.

    Attributes:
      reduction: k; a kept pixel stands for k × k pixels.
      photo: [h / k, w / k, 3] uint8, their means; sides rounded up.
      anomaly_map: [h / k, w / k] float32, the largest value of each k × k.
      reconstruction: [h / k, w / k, 3] float32, their means; None where there is none.
      score: the largest value of the score map so far.
    """

    def __init__(
        self,
        strips: Iterator[np.ndarray],
        size: tuple[int, int],
        window: tuple[int, int],
        most_pixels: int,
        to_scores: Callable[[np.ndarray], np.ndarray],
    ):
        """A large photo before its first strip is read.

        Args:
          strips: [k, w, 3] uint8 each, which together are the photo.
          size: width, height in pixels.
          window: (height, width) in pixels.
          most_pixels: that a photo may have to be held whole.
          to_scores: from a map [k, w] to the map whose largest value is the score. A pixel depends
            on none farther away than the window's height.
        """
        width, height = size
        self.size, self._window, self._to_scores = size, window, to_scores
        self._side = window[0]
        self._starts = starts(height, self._side)
        self._weights = weights(height, self._side, self._starts)
        self._across = len(starts(width, window[1]))
        self._strips = strips
        self._read, self._top = np.zeros((0, width, 3), np.uint8), 0  # rows at hand, and where
        self._tiles: dict[int, Tiles] = {}  # by the row of windows
        self._blend: np.ndarray | None = None  # rows that further windows may add to
        self._maps, self._maps_top = np.zeros((0, width), np.float32), 0  # not scored yet
        self.reduction = k = math.isqrt(math.ceil(_PICTURES * width * height / most_pixels)) + 1
        shape = -(-height // k), -(-width // k)
        self._sums = np.zeros((*shape, 3), np.float32)
        self._made: np.ndarray | None = None
        self.anomaly_map = np.zeros(shape, np.float32)
        self.score = 0.0

    def __len__(self) -> int:
        return len(self._starts) * self._across

    @property
    def photo(self) -> np.ndarray:
        return np.round(self._means(self._sums)).astype(np.uint8)

    @property
    def reconstruction(self) -> np.ndarray | None:
        return None if self._made is None else self._means(self._made)

    def window(self, i: int) -> np.ndarray:
        """[*window, 3] uint8.

        Raises:
          ImageError: the photo cannot be read so far down.
        """
        row, column = divmod(i, self._across)
        if row not in self._tiles:
            self._tiles[row] = Tiles(self._rows(self._starts[row]), self._window)
        return self._tiles[row].window(column)

    def add(self, i: int, found: np.ndarray) -> None:
        """Adds the results of window i, [*window, c] float32; the map comes first."""
        row, column = divmod(i, self._across)
        self._tiles[row].add(column, found)
        if column + 1 == self._across:
            self._add_row(row, self._tiles.pop(row).blend)

    def _rows(self, start: int) -> np.ndarray:
        """[window's height, w, 3] from row ``start`` on; rows above it are dropped."""
        self._read, self._top = self._read[start - self._top :], start
        parts = [self._read]
        while sum(map(len, parts)) < min(self._side, self.size[1]):
            strip = next(self._strips)
            _reduce(np.add, self._sums, strip, start + sum(map(len, parts)), self.reduction)
            parts.append(strip)
        self._read = np.concatenate(parts)
        return self._read[: self._side]

    def _add_row(self, row: int, blend: np.ndarray) -> None:
        start, height = self._starts[row], self.size[1]
        below = self._starts[row + 1] if row + 1 < len(self._starts) else height
        added = self._weights[row][:, None, None] * blend
        if self._blend is not None:
            added[: len(self._blend)] += self._blend
        final, self._blend = added[: below - start], added[below - start :]
        _reduce(np.maximum, self.anomaly_map, final[..., 0], start, self.reduction)
        if final.shape[-1] > 1:
            if self._made is None:
                self._made = np.zeros_like(self._sums)
            _reduce(np.add, self._made, final[..., 1:], start, self.reduction)
        self._maps = np.concatenate([self._maps, final[..., 0]])
        if below == height or len(self._maps) >= 4 * self._side:
            self._score(last=below == height)

    def _score(self, last: bool) -> None:
        """Scores the rows whose neighbours are at hand."""
        scores = self._to_scores(self._maps)
        first = self._side if self._maps_top else 0
        end = len(scores) if last else len(scores) - self._side
        self.score = max(self.score, float(scores[first:end].max()))
        self._maps_top += end - self._side
        self._maps = self._maps[end - self._side :]

    def _means(self, sums: np.ndarray) -> np.ndarray:
        counts = [np.minimum(self.reduction, n - np.arange(0, n, self.reduction))
                  for n in self.size[::-1]]  # fmt: skip
        return sums / np.outer(*counts)[..., None].astype(np.float32)


def _reduce(ufunc: np.ufunc, total: np.ndarray, rows: np.ndarray, top: int, factor: int) -> None:
    """Joins rows [k, w, …] to ``total``; the first one is row ``top`` of the photo."""
    columns = np.arange(0, rows.shape[1], factor)
    dtype = total.dtype if ufunc is np.add else None
    narrow = ufunc.reduceat(rows, columns, axis=1, dtype=dtype)
    begins = np.arange(-(top % factor), len(rows), factor)
    part = ufunc.reduceat(narrow, np.maximum(begins, 0), axis=0)
    at = slice(top // factor, top // factor + len(part))
    total[at] = ufunc(total[at], part)
