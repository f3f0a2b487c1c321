"""Turns a category's folder into records, and into sentences on what is left out or wrong."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from diffad_jax.data import masks, photo_table
from diffad_jax.data.images import ImageError
from diffad_jax.data.listing import (
    DataError,
    Folder,
    composed,
    describe_others,
    folded,
    is_normal,
    list_folder,
    matching,
)
from diffad_jax.data.photo import Rules

NORMAL = "good"
_ANOMALOUS_NAMES = (
    "ng", "nok", "ko", "bad", "defect", "defects", "defective", "anomaly", "anomalous", "abnormal"
)  # fmt: skip


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

    A folder ``good`` may also be called ok or normal. All names may be in any case.

    Two kinds of data set need more. One lists its photos in a ``table``; without that file its
    folders are read like the others'. The other has a label image beside each photo
    (``label_suffix``) in place of a folder for each class: a photo with a black label is normal.
    Training uses normal photos alone, so anomalous ones among its photos are left out and reported.
    """

    train: tuple[str, ...] = ("train/good",)  # normal photos; the first with any is taken
    validation: str = ""  # more normal photos, published to be held out
    test: str = "test"  # holds one folder a defect type, and one of normal photos
    beside: bool = False  # folders called bad, NG … in the category itself hold defects, too
    masks: str = "ground_truth"  # holds the same folders as ``test``
    mask_suffixes: tuple[str, ...] = ("_mask", "")  # a mask's stem is the photo's plus one of these
    table: str = ""  # a CSV file below ROOT, see ``photo_table``
    label_suffix: str = ""  # a label's stem is the photo's plus this
    test_every: int = (
        0  # no split is published: normal photos of each n-th sub-folder are for testing
    )


class CategoryReader:
    """Collects the records of one category's folder, and what is left out of it."""

    def __init__(self, folder: str, place: Layout):
        self.folder, self.place = folder, place
        self.records: list[Record] = []
        self.faults: list[str] = []
        self._notes: list[str] = []
        self._train = place.train[0]  # of its folders that with the normal photos
        self._used: set[str] = set()
        self._listed: dict[str, Folder] = {}

    def take_folders(self) -> None:
        """A folder a class."""
        place = self.place
        self._train = next(filter(self._normal_photos, place.train), place.train[0])
        for file in self._normal_photos(self._train):
            self._add(file, "train", NORMAL, None)
        if place.validation:
            for file in self._normal_photos(place.validation):
                self._add(file, "train", NORMAL, None, is_validation=True)
        test, masks = self._find(place.test), self._find(place.masks)
        kinds = [(test, k) for k in self._list(test).folders if os.path.join(test, k) != masks]
        if place.beside:
            own = self._list(self.folder).folders
            kinds += [(self.folder, k) for k in own if folded(k) in _ANOMALOUS_NAMES]
        truth = {k: self._photos(self._find(place.masks, k)) for _, k in kinds}
        some_masks = any(files for k, files in truth.items() if not is_normal(k))
        for parent, kind in kinds:
            mask_of = _by_stem(truth[kind])
            for file in self._photos(os.path.join(parent, kind)):
                found = (mask_of(_stem(file) + s) for s in place.mask_suffixes)
                mask = next(filter(None, found), None)
                if is_normal(kind):  # a mask of a good photo is black
                    self._used |= {mask} - {None}
                    self._add(file, "test", NORMAL, None)
                    continue
                if mask is None and some_masks:
                    wanted = os.path.join(masks, kind, _stem(file) + place.mask_suffixes[0])
                    self.faults.append(
                        f"{file} has no mask, while other photos have theirs: add {wanted}.png, "
                        "or remove the photo"
                    )
                self._add(file, "test", kind, mask)
        self._find_doubtful_pairs()

    def _find_doubtful_pairs(self) -> None:
        """Reports masks that lie among the photos, and masks that two photos share."""
        stems = {(os.path.dirname(r.file), folded(_stem(r.file))) for r in self.records}
        first: dict[str, str] = {}  # mask -> photo
        for r in self.records:
            folder, stem = os.path.dirname(r.file), folded(_stem(r.file))
            for suffix in filter(None, map(folded, self.place.mask_suffixes)):
                if stem.endswith(suffix) and (folder, stem.removesuffix(suffix)) in stems:
                    self.faults.append(
                        f"{r.file} is named as a mask, and lies among the photos: move it into "
                        f"{os.path.join(self.folder, self.place.masks or 'another folder')}, or "
                        "rename it"
                    )
            if r.mask and (other := first.setdefault(r.mask, r.file)) != r.file:
                self.faults.append(
                    f"{other} and {r.file} have one name, and so one mask, {r.mask}: rename or "
                    "remove one of the photos"
                )

    def take_listed(self, rows: Sequence[photo_table.Row]) -> None:
        """The photos that a table lists for this category."""
        some_masks = any(row.mask for row in rows)
        not_trained_on = 0
        for row in rows:
            kind = NORMAL if is_normal(row.label) else row.label
            if row.split == "train" and kind != NORMAL:
                self._used |= {row.image, row.mask}
                not_trained_on += 1
                continue
            self._add(row.image, row.split, kind, row.mask)
            for file in filter(None, (row.image, row.mask)):
                if "://" not in file and not os.path.lexists(file):
                    self.faults.append(f"{file} is listed in the table, but not there")
            if kind != NORMAL and some_masks and not row.mask:
                self.faults.append(
                    f"{row.image} is listed as {kind} without a mask, while other photos have "
                    "theirs: add its mask to the table, or remove the row"
                )
        self._note_defects_for_training(not_trained_on, "listed")

    def take_labelled(self) -> None:
        """A label image beside each photo."""
        place = self.place
        if place.test_every:
            names = enumerate(self._list(self.folder).folders, start=1)
            parts = [(os.path.join(self.folder, n), i % place.test_every == 0) for i, n in names]
        else:
            parts = [(self._find(n), n == place.test) for n in (*place.train, place.test)]
        for part, is_test in parts:
            found = self._photos(part)
            label_of = _by_stem(found)
            # KolektorSDD2 ships a stray "10301 (copy).png" and "10301_GT (copy).png".
            photos = [
                f for f in found
                if place.label_suffix not in _stem(f) and not _stem(f).endswith(" (copy)")
            ]  # fmt: skip
            labels = [label_of(_stem(f) + place.label_suffix) for f in photos]
            for file, label in zip(photos, labels, strict=True):
                if label is None:
                    self.faults.append(
                        f"{file} has no label beside it: add {_stem(file)}{place.label_suffix} "
                        "(black for a normal photo), or remove the photo"
                    )
            with ThreadPoolExecutor() as pool:
                is_normal_photo = list(pool.map(_is_black, filter(None, labels)))
            pairs = [(f, label) for f, label in zip(photos, labels, strict=True) if label]
            not_trained_on = 0
            for (file, label), normal in zip(pairs, is_normal_photo, strict=True):
                self._used.add(label)
                if normal:
                    self._add(file, "test" if is_test else "train", NORMAL, None)
                elif is_test or place.test_every:
                    self._add(file, "test", "defect", label)
                else:
                    self._used.add(file)
                    not_trained_on += 1
            self._note_defects_for_training(not_trained_on, "labelled")

    def left_out(self) -> list[str]:
        """A sentence a folder and kind of file."""
        notes, waiting = list(self._notes), [self.folder]
        while waiting:
            folder = waiting.pop()
            try:
                found = self._list(folder)
            except DataError as error:
                notes.append(str(error))
                continue
            unused = [n for n in found.photos if os.path.join(folder, n) not in self._used]
            if unused:
                notes.append(self._not_read(folder, unused))
            notes += describe_others(folder, found.others)
            for path in (os.path.join(folder, name) for name in found.folders):
                if path not in self._listed and os.path.islink(path):
                    notes.append(f"{path} is a link to a folder, which is not followed")
                else:
                    waiting.append(path)
        return sorted(notes)

    def _not_read(self, folder: str, names: Sequence[str]) -> str:
        place, masks = self.place, self._find(self.place.masks)
        if place.table and not self._listed.keys() - {self.folder}:
            remedy = "the table does not list them"
        elif os.path.join(folder, "").startswith(os.path.join(masks, "")):
            remedy = "a mask is named as its photo, perhaps with _mask behind"
        elif folder == self._find(place.test):
            remedy = f"put them into its folder {NORMAL}, or into one that is named for the defect"
        else:
            train = self._train or f"{self.folder} itself"
            train = "folders of their own" if place.test_every else train
            remedy = f"photos to train on belong into {train}, others into {place.test}/DEFECT"
        count = f"{len(names)} images are" if len(names) > 1 else "1 image is"
        return f"{count} left out in {folder}, such as {names[0]}: {remedy}"

    def _note_defects_for_training(self, count: int, said: str) -> None:
        if count:
            self._notes.append(
                f"{self.folder}: {count} anomalous photos are {said} for training, and left out: "
                "training is on normal photos"
            )

    def _add(
        self, file: str, split: str, kind: str, mask: str | None, is_validation: bool = False
    ) -> None:
        self._used |= {file, mask}
        self.records.append(Record(file, split, kind, mask, is_validation))

    def _normal_photos(self, path: str) -> list[str]:
        """Photos of a folder below the category; a last part ``good`` may have another name."""
        parent, _, last = path.rpartition("/")
        if last != NORMAL:
            return self._photos(self._find(path))
        parent = self._find(parent)
        kinds = [k for k in self._list(parent).folders if is_normal(k)] or [NORMAL]
        return [file for k in kinds for file in self._photos(os.path.join(parent, k))]

    def _find(self, *parts: str) -> str:
        """A folder below the category; the case of its parts does not matter."""
        path = self.folder
        for part in filter(None, "/".join(parts).split("/")):
            path = os.path.join(path, matching(self._list(path).folders, part) or part)
        return path

    def _photos(self, folder: str) -> list[str]:
        return [os.path.join(folder, name) for name in self._list(folder).photos]

    def _list(self, folder: str) -> Folder:
        if folder not in self._listed:
            self._listed[folder] = list_folder(folder)
        return self._listed[folder]


def _by_stem(files: Sequence[str]) -> Callable[[str], str | None]:
    """Finds the file of a stem; its accents may be coded in the other way."""
    exact = {_stem(f): f for f in files}
    alike = {composed(stem): f for stem, f in exact.items()}
    return lambda stem: exact.get(stem) or alike.get(composed(stem))


def _is_black(file: str) -> bool:
    try:
        return masks.is_black(file, Rules("bilinear"))
    except ImageError as error:
        raise DataError(f"cannot read the label {file}: {error}") from error


def _stem(file: str) -> str:
    return os.path.splitext(os.path.basename(file))[0]
