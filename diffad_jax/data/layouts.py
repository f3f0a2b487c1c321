"""The folders of each data set: small descriptions, and one reader for all."""

import dataclasses
import functools
import logging
import os
from collections.abc import Sequence

import ml_collections
import numpy as np
from etils import epath

from diffad_jax.data import photo_table
from diffad_jax.data.category import NORMAL, CategoryReader, Layout, Record
from diffad_jax.data.listing import DataError, cut_short, expanded, list_folder, matching
from diffad_jax.data.photo import IMAGE_SUFFIXES

__all__ = ["NORMAL", "DataError", "Layout", "Record"]  # made elsewhere, and used from here

logger = logging.getLogger(__name__)

# One in n + 1 new good photos scores above n held-out ones. So there is no verdict with fewer than
# 6, and from 19 on a threshold can keep 5 % of false alarms.
LEAST_HELD_OUT, ENOUGH_HELD_OUT = 6, 19
_LARGEST_PART = 3  # of few photos, one in so many is held out
LEAST_PHOTOS = _LARGEST_PART * LEAST_HELD_OUT

LAYOUTS: dict[str, Layout] = {
    "mvtec": Layout(),
    "toy": Layout(),  # as mvtec, and drawn where it is not there
    # Its private test sets come without labels, so they are for --mode=predict.
    "mvtec_ad2": Layout(
        validation="validation/good", test="test_public", masks="test_public/ground_truth"
    ),
    "visa": Layout(table="split_csv/1cls.csv"),
    # CATEGORY/kos01/Part0.jpg beside Part0_label.bmp. A sub-folder holds photos of one workpiece,
    # so that no normal test photo shows a workpiece of a training photo.
    "kolektor_sdd": Layout(label_suffix="_label", test_every=5),
    "kolektor_sdd2": Layout(train=("train",), label_suffix="_GT"),
    "folder": Layout(train=("train/good", "train", "good", ""), beside=True),
}


@dataclasses.dataclass
class Survey:
    """The contents of a category."""

    records: list[Record]  # sorted by file
    left_out: list[str]  # sentences on what is not read
    faults: list[str]  # sentences on what must be mended before training or evaluation


def read_category(root: str | os.PathLike[str], category: str, layout: str) -> list[Record]:
    """All photos of a category, sorted by file. Only labels beside photos are decoded.

    Files that are left out are logged once.

    Args:
      root: holds one folder a category; local, or any path that etils.epath reads (``gs://…``).
      category: a folder's name.
      layout: a name in ``LAYOUTS``.

    Raises:
      DataError: no such layout, root or category; no normal training photo; a defect photo
        without its mask where others have theirs; a folder or a table that cannot be read.
    """
    found = survey(root, category, layout)
    if found.faults:
        more = len(found.faults) - 1
        others = f" ({more} more such faults: --mode=inspect lists all)" if more else ""
        raise DataError(found.faults[0] + others)
    for sentence in cut_short(found.left_out):
        _say_once(f"{category}: {sentence}")
    return found.records


@functools.cache
def _say_once(sentence: str) -> None:
    logger.warning("%s", sentence)


def survey(root: str | os.PathLike[str], category: str, layout: str) -> Survey:
    """Like ``read_category``, but returns what is left out and what must be mended.

    Raises:
      DataError: no such layout, root or category; no normal training photo; the category's folder
        or its table cannot be read.
    """
    place, root = _layout(layout), expanded(root)
    table = photo_table.read(root, place.table)
    names = _categories(root, table)
    name = matching(names, category)
    if name is None:
        there = ", ".join(names) or "no folder at all"
        raise DataError(
            f"no category {category!r} in {root}; there is {there}: name one behind the config, "
            "--config=FILE:CATEGORY, or where the photos are now, --config.data.root=FOLDER"
        )
    if not _is_text(category):
        raise DataError(
            f"the folder {category!r} in {root} has a name that is no UTF-8, which checkpoints "
            "cannot have: rename it"
        )
    reader = CategoryReader(os.path.join(root, name), place)
    if table is not None:
        reader.take_listed([row for row in table if row.category == name])
    elif place.label_suffix:
        reader.take_labelled()
    else:
        reader.take_folders()
    left_out = reader.left_out()
    if not any(r.split == "train" and not r.is_validation for r in reader.records):
        wanted = os.path.join(reader.folder, place.train[0] if not place.test_every else "")
        listed = f", or list them in {os.path.join(root, place.table)}" if place.table else ""
        raise DataError(
            f"{reader.folder} is empty of normal photos: put them into {wanted}{listed} "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})"
            + "".join(f"; {s}" for s in left_out[:3])
            + "; photos directly in the folder are read by --config.data.layout=folder"
            * (layout != "folder")
        )
    return Survey(sorted(reader.records, key=lambda r: r.file), left_out, reader.faults)


def list_categories(root: str | os.PathLike[str], layout: str) -> list[str]:
    """The names of the categories below ``root``, sorted.

    Raises:
      DataError: there is no such folder or layout; the table cannot be read.
    """
    place, root = _layout(layout), expanded(root)
    return _categories(root, photo_table.read(root, place.table))


def _categories(root: str, table: Sequence[photo_table.Row] | None) -> list[str]:
    if table is not None:
        return sorted({row.category for row in table})
    if not epath.Path(root).is_dir():
        raise DataError(
            f"no folder {root}: name the one that holds categories, --config.data.root=FOLDER"
        )
    return list_folder(root).folders


def split_validation(
    records: list[Record], share: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """(kept, held out) of normal photos: a seeded share, rounded; at least two photos are kept.

    Few photos need a larger share: 19 are held out, or a third where that is less. Where the data
    set publishes validation photos, these are held out instead. With ``share`` 0 nothing is held
    out, and published validation photos are not kept either.
    """
    kept = [r for r in records if not r.is_validation]
    if len(kept) < len(records):
        return kept, [r for r in records if r.is_validation] if share > 0.0 else []
    least = min(ENOUGH_HELD_OUT, len(records) // _LARGEST_PART)
    wanted = max(round(share * len(records)), least) if share > 0.0 else 0
    count = max(min(wanted, len(records) - 2), 0)  # a method may need two
    held_out = set(np.random.default_rng(seed).permutation(len(records))[:count].tolist())
    return (
        [r for i, r in enumerate(records) if i not in held_out],
        [r for i, r in enumerate(records) if i in held_out],
    )


def normal_photos(
    config: ml_collections.ConfigDict, category: str
) -> tuple[list[Record], list[Record]]:
    """(to train on, held out): the category's normal photos, split as ``config.data`` says.

    Raises:
      DataError: the category is missing or empty.
    """
    c = config.data
    normal = [r for r in survey(c.root, category, c.layout).records if r.split == "train"]
    return split_validation(normal, c.validation_share, config.seed)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _layout(name: str) -> Layout:
    if name not in LAYOUTS:
        raise DataError(
            f"config.data.layout = {name!r}: choose one of {', '.join(LAYOUTS)} (BTAD, MPDD and "
            "magnetic tiles lie as mvtec does)"
        )
    return LAYOUTS[name]
