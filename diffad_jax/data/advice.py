"""Advice on a data set, in sentences: for ``inspect`` and for training."""

import math
from collections.abc import Sequence

import numpy as np

from diffad_jax.data.layouts import ENOUGH_HELD_OUT, LEAST_HELD_OUT, LEAST_PHOTOS

# A photo is under other light where its mean differs from the others' by so many deviations (of a
# normal distribution, judged by the median), and by so many of 255 levels. No normal photo of
# bottle, transistor and magnetic tile does.
_MOST_DEVIATIONS, _LEAST_LEVELS = 5.0, 8.0
_SAME_SHAPE = 1.02  # aspect ratios that differ by less are taken for the same
_SHOWN = 5


def few_photos(num_normal: int, num_held_out: int, rate: float, share: float) -> list[str]:
    """Says what verdicts are worth where few photos are held out; nothing where there are enough.

    The next good photo scores above all n held-out ones in one case of n + 1, whatever the method,
    so no threshold from them keeps a smaller share of false alarms.

    Args:
      num_normal: normal photos, held-out ones included.
      num_held_out: how many of them are held out.
      rate: ``config.evaluation.false_alarm_rate``.
      share: ``config.data.validation_share``.
    """
    said = f"{_count(num_normal, 'normal photo')}, {num_held_out or 'none'} held out"
    if num_held_out < LEAST_HELD_OUT:
        remedy = (
            f"take {LEAST_PHOTOS} photos or more"
            if num_normal < LEAST_PHOTOS
            else "set config.data.validation_share above 0"
        )
        return [
            f"{said}: there is no threshold, which takes {LEAST_HELD_OUT}, so no verdict; scores "
            f"and maps alone. For verdicts {remedy}, or judge by a --threshold of your own"
        ]
    enough = max(math.ceil(1.0 / rate) - 1, 1) if rate > 0.0 else num_held_out
    if num_held_out >= enough:
        return []
    part = LEAST_HELD_OUT / LEAST_PHOTOS if enough <= ENOUGH_HELD_OUT else share
    return [
        f"{said}: 1 in {num_held_out + 1} new good photos will be called anomalous on average. For "
        f"{100 * rate:g} % hold out {enough}: take {math.ceil(enough / part)} photos, or raise "
        "config.data.validation_share"
    ]


def duplicates(train: Sequence[Sequence[str]], across: Sequence[Sequence[str]]) -> list[str]:
    """Advice on photos that are there several times; a group holds files with equal pixels."""
    sentences = []
    if train:
        copies = sum(len(group) - 1 for group in train)
        sentences.append(
            f"{_count(copies, 'copy', 'copies')} among the training photos, such as {train[0][1]}: "
            "remove them, since a photo that is trained on and held out makes thresholds too low"
        )
    if across:
        sentences.append(
            f"{_count(len(across), 'photo')} for training and testing at once, such as "
            f"{across[0][0]}: remove them from either, since metrics would flatter"
        )
    return sentences


def sizes(found: Sequence[tuple[int, int]]) -> list[str]:
    """Advice on photos (width, height) of several shapes: a square squeezes them differently."""
    ratios = [width / height for width, height in found]
    if not ratios or max(ratios) <= _SAME_SHAPE * min(ratios):
        return []
    return [
        f"photos are of different shapes, width to height {min(ratios):.2f} to {max(ratios):.2f}: "
        "all are resized to a square, which squeezes each in another way; crop them alike"
    ]


def colours(modes: Sequence[str]) -> list[str]:
    """Advice on grey photos among coloured ones (names of Pillow's modes)."""
    grey = sum(mode in ("1", "L", "LA") or mode.startswith("I") for mode in modes)
    if grey in (0, len(modes)):
        return []
    return [f"{grey} of {len(modes)} photos are grey, the others coloured: take one kind"]


def pages(found: Sequence[tuple[str, int]]) -> list[str]:
    """Advice on files (name, pages) of several photos, or with a preview before the photo."""
    several = [(file, count) for file, count in found if count > 1]
    if not several:
        return []
    file, count = several[0]
    return [
        f"{_count(len(several), 'file')} with several pages or frames, such as {file} ({count}): "
        "the first is read, see whether it is the photo; save the others as files of their own"
    ]


def light(
    brightness: Sequence[float], is_reference: Sequence[bool], files: Sequence[str]
) -> list[str]:
    """Advice on photos that are much darker or brighter than the rest.

    Args:
      brightness: [n], mean of the pixels in 0 … 255.
      is_reference: [n], whether the others are compared with this photo.
      files: [n].
    """
    values, reference = np.asarray(brightness), np.asarray(is_reference, bool)
    if not reference.any():
        return []
    middle = np.median(values[reference])
    deviation = 1.4826 * np.median(np.abs(values[reference] - middle))
    far = np.abs(values - middle) > max(_MOST_DEVIATIONS * deviation, _LEAST_LEVELS)
    others = [f for f, is_far in zip(files, far, strict=True) if is_far]
    if not others:
        return []
    named = ", ".join(others[:_SHOWN]) + (" …" if others[_SHOWN:] else "")
    return [
        f"{_count(len(others), 'normal photo')} under other light than the rest (means of "
        f"{values[far].min():.0f} to {values[far].max():.0f} of 255, median {middle:.0f}): "
        f"{named}; take them again, or more of them"
    ]


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
