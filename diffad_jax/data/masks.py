"""Ground-truth masks: which of their pixels are anomalous, by one rule for a whole set of them.

Most masks are black and white. Others number the kinds of defects (1, 2, 3 or 10, 20, 30), paint
them in colours, or have grey edges from resizing or JPEG. One file alone does not tell which.
"""

import collections
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from diffad_jax.data import images, photo
from diffad_jax.data.images import ImageError
from diffad_jax.data.photo import Rules, bilinear
from diffad_jax.types import Size, height_width

_MANY = 32  # values above 0: more of them are edges or noise
_DARK = 32  # of 255: what stays below beside brighter values may be noise
_AREA = 0.05  # of a mask's pixels above 0: a value of less may be noise
_INVERTED = 0.75  # of the photo
_SQUARE = np.ones((3, 3), bool)
_SHOWN = 8


class MaskSet(NamedTuple):
    """The meaning of the values in a set of masks."""

    values: tuple[
        int, ...
    ]  # above 0, rising, of all masks; a pixel's is that of its brightest channel
    are_labels: bool  # all above 0 is anomalous; else grey edges are between
    white: int  # the least value of a pixel that is wholly anomalous
    rules: Rules

    def describe(self) -> str:
        if not self.values:
            return "masks hold no value above 0"
        some = [str(v) for v in self.values[:_SHOWN]]
        shown = ", ".join(some) + (f" … {self.values[-1]}" if self.values[_SHOWN:] else "")
        meaning = "all of them anomalous" if self.are_labels else f"anomalous from {self.white} on"
        return f"masks hold the values {shown} above 0, {meaning}"

    def levels(
        self, path: str | os.PathLike[str], photo_size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Decodes a mask at its own size: [h, w] uint8, 0 normal … 255 anomalous.

        Args:
          path: a mask of the set.
          photo_size: (width, height) of the photo that it belongs to; None does not compare.

        Raises:
          ImageError: damaged, or of another size than its photo.
        """
        values = images.decode(path, self.rules, _values)
        height, width = values.shape
        if photo_size is not None and (width, height) != photo_size:
            raise ImageError(
                f"{path} is {width} × {height}, its photo {photo_size[0]} × {photo_size[1]}: "
                "a mask must be as large as its photo"
            )
        table = np.round(np.arange(self.white + 1) * (255.0 / self.white)).astype(np.uint8)
        return photo.looked_up(table, np.clip(values, 0, self.white))

    def read(
        self,
        path: str | os.PathLike[str],
        size: Size | None,
        rule: str,
        photo_size: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """Decodes a mask: [h, w] uint8, 1 where anomalous, 0 elsewhere.

        Args:
          path: a mask of the set.
          size: resized bilinearly (as published) to it; None keeps the mask's own.
          rule: the resized pixels that count. ``full``: those that are still white when rounded to
            8 bit (the published code truncates its 8-bit mask / 255). ``half``: those above half,
            right for masks with compression noise. ``any``: all that are not black.
          photo_size: see ``levels``.

        Raises:
          ImageError: see ``levels``.
          ValueError: no such rule.
        """
        if rule not in ("full", "half", "any"):
            raise ValueError(f"config.evaluation.mask_rule = {rule!r}: choose full, half or any")
        level = self.levels(path, photo_size)
        shape = level.shape if size is None else height_width(size)
        if level.shape != shape:
            level = bilinear(level[..., None], shape)[..., 0]
        if rule == "full":
            return (np.floor(level + 0.5) >= 255).astype(np.uint8)
        return (level > (127.5 if rule == "half" else 0)).astype(np.uint8)


def survey(files: Sequence[str], rules: Rules) -> tuple[MaskSet, list[str]]:
    """The meaning of these masks' values, and a sentence on each mask that looks wrong.

    Masks are labels where there are few values and each has areas of its own. They are grey where
    values lie between others; then the darkest value with areas of its own counts as white.
    Unreadable masks are passed over: later readers report them.
    """

    def look(path: str) -> _Look | None:
        try:
            return images.decode(path, rules, _look)
        except ImageError:
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = list(pool.map(look, files))
    problems = []
    for path, seen in zip(files, looks, strict=True):
        if seen is not None and (problem := seen.problem()):
            problems.append(f"{path} {problem}")
    return _meaning([seen for seen in looks if seen is not None], rules), problems


def is_black(path: str | os.PathLike[str], rules: Rules) -> bool:
    """Whether a label image shows no anomaly: nothing in it is above 0.

    Raises:
      ImageError: not an image, damaged, or too large.
    """
    return not images.decode(path, rules, _values).any()


class _Look(NamedTuple):
    """One mask of a set."""

    values: frozenset[int]  # above 0
    alone: frozenset[int]  # those that some area has, not only edges of areas
    solid: frozenset[int]  # those that have a considerable area
    share: float  # of pixels above 0
    hidden: bool  # its transparency varies

    def problem(self) -> str:
        """The rest of a sentence; empty where nothing looks wrong."""
        hint = "; its transparency varies, which is not read: save it as grey" * self.hidden
        if not self.share:
            return f"is empty, so all pixels of its photo count as normal{hint}"
        if self.share >= _INVERTED:
            return (
                f"marks {100 * self.share:.0f} % of its photo as anomalous: if it is inverted, "
                f"paint defects white{hint}"
            )
        return ""


def _values(image: Image.Image, rules: Rules) -> np.ndarray:
    """[h, w] of integers, upright: the brightest channel."""
    del rules  # a mask has all bits that it has
    pixels = photo.deep_levels(image)
    if pixels is None:
        return photo.brightest_channel(image)
    return pixels if pixels.ndim == 2 else pixels.max(axis=-1)


def _look(image: Image.Image, rules: Rules) -> _Look:
    hidden = False
    if image.mode in ("LA", "RGBA", "PA"):
        low, high = image.getchannel("A").getextrema()
        hidden = low < high
    pixels = _values(image, rules)
    found, counts = np.unique(pixels, return_counts=True)
    found, counts = found[found > 0], counts[found > 0]
    total = int(counts.sum())
    values = alone = solid = frozenset(found.tolist())
    if len(values) > 1:
        flat = ndimage.minimum_filter(pixels, 3) == ndimage.maximum_filter(pixels, 3)
        flat_values = frozenset(np.unique(pixels[flat]).tolist())
        large = frozenset(found[counts >= _AREA * total].tolist())
        solid, alone = flat_values & large, flat_values & values
        if len(values) <= _MANY:
            areas, number = ndimage.label(pixels > 0, _SQUARE)
            peaks = ndimage.maximum(pixels, areas, np.arange(1, number + 1))
            alone |= frozenset(int(peak) for peak in peaks)
    return _Look(values, alone, solid, total / pixels.size, hidden)


def _meaning(looks: list[_Look], rules: Rules) -> MaskSet:
    values = tuple(sorted(frozenset().union(*(seen.values for seen in looks))))
    if not values:
        return MaskSet((), True, 255, rules)
    dark = _DARK if values[-1] < 256 else 257 * _DARK
    there = collections.Counter(v for seen in looks for v in seen.values)
    alone = collections.Counter(v for seen in looks for v in seen.alone)
    few = len(values) <= _MANY and all(2 * alone[v] >= there[v] for v in values)
    if few or values[-1] < dark:
        return MaskSet(values, True, values[0], rules)
    solid = {v for seen in looks for v in seen.solid if v >= dark}
    return MaskSet(values, False, min(solid, default=values[-1]), rules)
