"""Where a data set keeps its photos and masks: small descriptions, one reader for all."""

import dataclasses
import os
from pathlib import PurePosixPath

import numpy as np
from etils import epath

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"))
NORMAL = "good"


class DataError(ValueError):
    """The data is not as it should be; the message names the place and the remedy."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One photo."""

    file: str
    split: str  # train | test
    defect_type: str  # "good" for a normal photo
    mask: str | None  # file of the ground truth; None for normal photos and where there is none

    @property
    def is_anomalous(self) -> bool:
        return self.defect_type != NORMAL


@dataclasses.dataclass(frozen=True)
class Layout:
    """Folders below ROOT/CATEGORY; a test folder's name is the defect type."""

    train: tuple[str, ...] = ("train/good",)  # normal photos; the first that exists is taken
    test: str = "test"  # holds one folder a defect type, and one of normal photos
    normal: tuple[str, ...] = (NORMAL,)  # names of that folder
    masks: str = "ground_truth"  # holds the same folders as ``test``
    mask_suffixes: tuple[str, ...] = ("_mask", "")  # a mask's stem is the photo's plus one of these


LAYOUTS: dict[str, Layout] = {
    "mvtec": Layout(),
    "toy": Layout(),
    "magnetic_tile": Layout(),
    "mpdd": Layout(),
    "btad": Layout(train=("train/ok",), normal=("ok",)),
    "folder": Layout(train=("train/good", "train", "good", ".")),
}


def read_category(root: str | os.PathLike[str], category: str, layout: str) -> list[Record]:
    """All photos of a category, sorted by file.

    Args:
      root: holds one folder a category; local, or any path that etils.epath reads (``gs://…``).
      category: a folder's name.
      layout: a name in ``LAYOUTS``.

    Raises:
      DataError: no such layout, root or category; no normal training photo; a defect photo
        without its mask where others have theirs.
    """
    if layout not in LAYOUTS:
        raise DataError(f"config.data.layout = {layout!r}: choose one of {', '.join(LAYOUTS)}")
    place, names = LAYOUTS[layout], list_categories(root)
    if category not in names:
        raise DataError(
            f"no category {category!r} in {root}; there is {', '.join(names) or 'no folder at all'}"
        )
    folder = epath.Path(root) / category
    train_folder = next((p for p in map(folder.joinpath, place.train) if _photos(p)), None)
    if train_folder is None:
        raise DataError(
            f"{folder} is empty of normal photos: put them into {folder / place.train[0]} "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    records = [Record(f, "train", NORMAL, None) for f in _photos(train_folder)]
    return records + _test_records(folder, place)


def list_categories(root: str | os.PathLike[str]) -> list[str]:
    """The names of the categories below ``root``.

    Raises:
      DataError: there is no such folder.
    """
    path = epath.Path(root)
    if not path.is_dir():
        raise DataError(f"no folder {root}: set config.data.root to the one that holds categories")
    return [name for name in _names(path) if (path / name).is_dir()]


def split_validation(
    records: list[Record], share: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """(kept, held out): a seeded share of the records, rounded; at least one is kept."""
    count = min(round(share * len(records)), len(records) - 1)
    if share > 0.0 and count == 0 and len(records) > 1:
        count = 1
    held_out = set(np.random.default_rng(seed).permutation(len(records))[:count].tolist())
    return (
        [r for i, r in enumerate(records) if i not in held_out],
        [r for i, r in enumerate(records) if i in held_out],
    )


def _test_records(folder: epath.Path, place: Layout) -> list[Record]:
    test = folder / place.test
    if not test.is_dir():
        return []
    records = []
    for kind in (name for name in _names(test) if (test / name).is_dir()):
        photos = _photos(test / kind)
        if kind in place.normal:
            records += [Record(f, "test", NORMAL, None) for f in photos]
            continue
        masks = _masks(photos, folder / place.masks / kind, place)
        records += [Record(f, "test", kind, m) for f, m in zip(photos, masks, strict=True)]
    return records


def _masks(photos: list[str], folder: epath.Path, place: Layout) -> list[str | None]:
    """Each photo's mask; all None where the folder of masks is missing."""
    if not folder.is_dir():
        return [None] * len(photos)
    by_stem = {PurePosixPath(f).stem: f for f in _photos(folder)}
    found = []
    for photo in photos:
        stem = PurePosixPath(photo).stem
        mask = next((by_stem[stem + s] for s in place.mask_suffixes if stem + s in by_stem), None)
        if mask is None:
            raise DataError(
                f"{photo} has no mask in {folder}, where other photos have theirs: "
                f"add {stem}{place.mask_suffixes[0]}.png, or remove the photo"
            )
        found.append(mask)
    return found


def _photos(folder: epath.Path) -> list[str]:
    """Image files directly in ``folder``, sorted; none where it is missing."""
    if not folder.is_dir():
        return []
    names = (n for n in _names(folder) if PurePosixPath(n).suffix.lower() in IMAGE_SUFFIXES)
    return [str(folder / n) for n in names]


def _names(folder: epath.Path) -> list[str]:
    """What is in ``folder``, sorted, without what is hidden.

    Raises:
      DataError: the folder cannot be read.
    """
    try:
        return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error
