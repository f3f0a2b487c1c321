"""Where a data set keeps its photos and masks: small descriptions, one reader for all."""

import csv
import dataclasses
import io
import os
from concurrent.futures import ThreadPoolExecutor

import ml_collections
import numpy as np
from etils import epath
from PIL import Image

from diffad_jax.data.photo import IMAGE_SUFFIXES
from diffad_jax.errors import UserError

NORMAL = "good"
_COLUMNS = ("object", "split", "label", "image", "mask")  # of a table of photos


class DataError(UserError):
    """The data is not as it should be; the message names the place and the remedy."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One photo."""

    file: str
    split: str  # train | test
    defect_type: str  # "good" for a normal photo
    mask: str | None  # file of the ground truth; None for normal photos and where there is none
    is_validation: bool = False  # of the train split, but published to be held out

    @property
    def is_anomalous(self) -> bool:
        return self.defect_type != NORMAL


@dataclasses.dataclass(frozen=True)
class Layout:
    """Folders below ROOT/CATEGORY; a test folder's name is the defect type.

    Two kinds of data set need more. One lists its photos in a ``table``; without that file its
    folders are read like the others'. One has no folder a class, but a label image beside each
    photo (``label_suffix``): a photo with a black label is normal. Its defect photos are for
    testing; those in a published training folder are left out, since training is on normal photos.
    """

    train: tuple[str, ...] = ("train/good",)  # normal photos; the first with any is taken
    validation: str = ""  # more normal photos, published to be held out
    test: str = "test"  # holds one folder a defect type, and one of normal photos
    normal: tuple[str, ...] = (NORMAL,)  # names of that folder
    masks: str = "ground_truth"  # holds the same folders as ``test``
    mask_suffixes: tuple[str, ...] = ("_mask", "")  # a mask's stem is the photo's plus one of these
    table: str = ""  # a CSV file below ROOT, columns object, split, label, image, mask
    label_suffix: str = ""  # a label's stem is the photo's plus this
    test_every: int = (
        0  # no split is published: normal photos of each n-th sub-folder are for testing
    )


LAYOUTS: dict[str, Layout] = {
    "mvtec": Layout(),
    "toy": Layout(),
    "magnetic_tile": Layout(),
    "mpdd": Layout(),
    # Its private test sets come without labels, so they are for --mode=predict.
    "mvtec_ad2": Layout(
        validation="validation/good", test="test_public", masks="test_public/ground_truth"
    ),
    "visa": Layout(table="split_csv/1cls.csv"),
    "btad": Layout(train=("train/ok",), normal=("ok",)),
    # CATEGORY/kos01/Part0.jpg beside Part0_label.bmp. A sub-folder holds photos of one workpiece,
    # so that no normal test photo shows a workpiece of a training photo.
    "kolektor_sdd": Layout(label_suffix="_label", test_every=5),
    "kolektor_sdd2": Layout(train=("train",), label_suffix="_GT"),
    "folder": Layout(train=("train/good", "train", "good", ""), normal=(NORMAL, "ok", "normal")),
}


def read_category(root: str | os.PathLike[str], category: str, layout: str) -> list[Record]:
    """All photos of a category, sorted by file. Nothing is decoded but labels beside photos.

    Args:
      root: holds one folder a category; local, or any path that etils.epath reads (``gs://…``).
      category: a folder's name.
      layout: a name in ``LAYOUTS``.

    Raises:
      DataError: no such layout, root or category; no normal training photo; a defect photo
        without its mask where others have theirs; a folder that cannot be read.
    """
    place, names = _layout(layout), list_categories(root, layout)
    if category not in names:
        raise DataError(
            f"no category {category!r} in {root}; there is {', '.join(names) or 'no folder at all'}"
        )
    root = _text(root)
    folder = os.path.join(root, category)
    table = _read_table(root, place)
    if table is not None:
        records = _listed_records(root, [row for row in table if row["object"] == category])
    elif place.label_suffix:
        records = _labelled_records(folder, place)
    else:
        records = _train_records(folder, place) + _test_records(folder, place)
    if not any(r.split == "train" and not r.is_validation for r in records):
        wanted = os.path.join(folder, place.train[0] if not place.test_every else "")
        listed = f", or list them in {os.path.join(root, place.table)}" if place.table else ""
        raise DataError(
            f"{folder} is empty of normal photos: put them into {wanted}{listed} "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return sorted(records, key=lambda r: r.file)


def list_categories(root: str | os.PathLike[str], layout: str) -> list[str]:
    """The names of the categories below ``root``, sorted.

    Raises:
      DataError: there is no such folder or layout.
    """
    place, root = _layout(layout), _text(root)
    if not epath.Path(root).is_dir():
        raise DataError(f"no folder {root}: set config.data.root to the one that holds categories")
    table = _read_table(root, place)
    return list_folder(root)[0] if table is None else sorted({row["object"] for row in table})


def split_validation(
    records: list[Record], share: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """(kept, held out) of normal photos: a seeded share, rounded; at least one photo is kept.

    Where the data set publishes validation photos, those are held out instead of the share. With
    ``share`` 0 nothing is held out, and published validation photos are not kept either.
    """
    kept = [r for r in records if not r.is_validation]
    if len(kept) < len(records):
        return kept, [r for r in records if r.is_validation] if share > 0.0 else []
    count = min(round(share * len(records)), len(records) - 1)
    if share > 0.0 and count == 0 and len(records) > 1:
        count = 1
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
    normal = [r for r in read_category(c.root, category, c.layout) if r.split == "train"]
    return split_validation(normal, c.validation_share, config.seed)


def list_folder(folder: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the images in ``folder``, sorted, without what is hidden.

    Both are empty where the folder is missing. A link that leads nowhere counts as a file, so
    that it is an error to whoever reads it and not a photo less.

    Raises:
      DataError: the folder cannot be read.
    """
    try:
        if "://" in folder:
            paths = list(epath.Path(folder).iterdir()) if epath.Path(folder).is_dir() else []
            # Asking a bucket costs a request a name, so a photo's name is believed.
            found = [(p.name, not _is_image(p.name) and p.is_dir()) for p in paths]
        else:
            with os.scandir(folder) as entries:
                found = [(e.name, _is_folder(e)) for e in entries]
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except Exception as error:  # each kind of storage has its own errors
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read the folder {folder}: {reason}") from error
    shown = sorted((name, is_folder) for name, is_folder in found if not name.startswith("."))
    folders = [name for name, is_folder in shown if is_folder]
    return folders, [name for name, is_folder in shown if not is_folder and _is_image(name)]


def _layout(name: str) -> Layout:
    if name not in LAYOUTS:
        raise DataError(f"config.data.layout = {name!r}: choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def _train_records(folder: str, place: Layout) -> list[Record]:
    places = (_photos(os.path.join(folder, t)) for t in place.train)
    records = [Record(f, "train", NORMAL, None) for f in next(filter(None, places), [])]
    if place.validation:
        held_out = _photos(os.path.join(folder, place.validation))
        records += [Record(f, "train", NORMAL, None, is_validation=True) for f in held_out]
    return records


def _test_records(folder: str, place: Layout) -> list[Record]:
    test, mask_root = os.path.join(folder, place.test), os.path.join(folder, place.masks)
    kinds = [k for k in list_folder(test)[0] if os.path.join(test, k) != mask_root]
    photos = {k: _photos(os.path.join(test, k)) for k in kinds}
    masks = {k: _photos(os.path.join(mask_root, k)) for k in kinds}
    some_masks = any(masks[k] for k in kinds if k not in place.normal)
    records = []
    for kind in kinds:
        if kind in place.normal:
            records += [Record(f, "test", NORMAL, None) for f in photos[kind]]
            continue
        by_stem = {_stem(m): m for m in masks[kind]}
        for file in photos[kind]:
            found = (by_stem.get(_stem(file) + s) for s in place.mask_suffixes)
            mask = next(filter(None, found), None)
            if mask is None and some_masks:
                wanted = os.path.join(mask_root, kind, _stem(file) + place.mask_suffixes[0])
                raise DataError(
                    f"{file} has no mask, while other photos have theirs: add {wanted}.png, "
                    "or remove the photo"
                )
            records.append(Record(file, "test", kind, mask))
    return records


def _listed_records(root: str, rows: list[dict[str, str]]) -> list[Record]:
    """Records of a table's rows; a row's label is "normal" or a defect type."""
    some_masks = any(row["mask"] for row in rows)
    records = []
    for row in rows:
        file = os.path.join(root, row["image"])
        if row["label"] == "normal":
            records.append(Record(file, row["split"], NORMAL, None))
            continue
        if some_masks and not row["mask"]:
            raise DataError(
                f"{file} is listed as {row['label']} without a mask, while other photos have "
                "theirs: add its mask to the table, or remove the row"
            )
        mask = os.path.join(root, row["mask"]) if row["mask"] else None
        records.append(Record(file, row["split"], row["label"], mask))
    return records


def _read_table(root: str, place: Layout) -> list[dict[str, str]] | None:
    """The rows of the layout's table; None where there is none."""
    path = epath.Path(root) / place.table
    if not place.table or not path.exists():
        return None
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the table {path}: {error}") from error
    if any(row.get(c) is None for row in rows for c in _COLUMNS):
        raise DataError(f"each row of {path} needs the columns {', '.join(_COLUMNS)}")
    if bad := {row["split"] for row in rows} - {"train", "test"}:
        raise DataError(f"{path} has the split {min(bad)!r}: it must be train or test")
    return rows


def _labelled_records(folder: str, place: Layout) -> list[Record]:
    if place.test_every:
        names = enumerate(list_folder(folder)[0], start=1)
        parts = [(os.path.join(folder, n), i % place.test_every == 0) for i, n in names]
    else:
        parts = [(os.path.join(folder, n), n == place.test) for n in (*place.train, place.test)]
    records = []
    for part, is_test in parts:
        files = {_stem(f): f for f in _photos(part)}
        # KolektorSDD2 ships a stray "10301 (copy).png" and "10301_GT (copy).png".
        stems = [s for s in files if place.label_suffix not in s and not s.endswith(" (copy)")]
        for stem in stems:
            if stem + place.label_suffix not in files:
                raise DataError(
                    f"{files[stem]} has no label beside it: add {stem}{place.label_suffix} "
                    "(black for a normal photo), or remove the photo"
                )
        labels = [files[stem + place.label_suffix] for stem in stems]
        with ThreadPoolExecutor() as pool:
            normal = list(pool.map(_is_black, labels))
        for stem, label, is_normal in zip(stems, labels, normal, strict=True):
            if is_normal:
                split = "test" if is_test else "train"
                records.append(Record(files[stem], split, NORMAL, None))
            elif is_test or place.test_every:
                records.append(Record(files[stem], "test", "defect", label))
    return records


def _is_black(file: str) -> bool:
    try:
        with Image.open(io.BytesIO(epath.Path(file).read_bytes())) as image:
            return image.convert("RGB").getbbox() is None
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise DataError(f"cannot read the label {file}: {error}; restore it") from error


def _photos(folder: str) -> list[str]:
    """Image files directly in ``folder``, sorted; none where it is missing."""
    return [os.path.join(folder, name) for name in list_folder(folder)[1]]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _stem(file: str) -> str:
    return os.path.splitext(os.path.basename(file))[0]


def _text(path: str | os.PathLike[str]) -> str:
    return os.path.expanduser(os.fspath(path))
