"""A table that lists photos with their split, label and mask: a CSV file, as VisA has it."""

import csv
import os
from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple

from diffad_jax.data.listing import DataError, is_normal, lines, read_table

_COLUMNS = ("object", "split", "label", "image", "mask")
_MOST_ROWS = 2**18


class Row(NamedTuple):
    """One photo."""

    category: str
    split: str  # train | test
    label: str  # as listed; see ``listing.is_normal``
    image: str  # file
    mask: str | None  # file


def read(root: str, table: str) -> list[Row] | None:
    """The rows of the file ``table`` below ``root``; None where there is none.

    Paths in it are relative to ``root``, with either slash, and may not leave it.

    Raises:
      DataError: the file cannot be read; a column is missing; a row is impossible, names a place
        outside of ``root``, or a photo that another row has.
    """
    path = os.path.join(root, table)
    if not table or (data := read_table(path)) is None:
        return None
    inside = os.path.join(os.path.realpath(root), "")
    rows, seen = [], set()
    once: dict[str, str] = {}  # many rows say the same
    for number, line in enumerate(_listed(path, data), start=2):
        if any(line.get(column) is None for column in _COLUMNS):
            raise DataError(
                f"each row of {path} needs the columns {', '.join(_COLUMNS)}, separated by commas"
            )
        category, split, label = (line[c].strip() for c in _COLUMNS[:3])
        where = f"{path}, row {number}"
        if not _is_name(category):
            raise DataError(f"{where} has the object {category!r}: it must be a folder's name")
        if split not in ("train", "test"):
            raise DataError(f"{where} has the split {split!r}: it must be train or test")
        if not label:
            raise DataError(f"{where} has no label: it must be normal, or the kind of defect")
        image, mask = (_place(root, inside, line[c], where) for c in _COLUMNS[3:])
        if image is None:
            raise DataError(f"{where} names no image")
        if image in seen:
            raise DataError(f"{where} lists {image} once more: a photo may be there once")
        seen.add(image)
        category, split, label = (once.setdefault(t, t) for t in (category, split, label))
        rows.append(Row(category, split, label, image, None if is_normal(label) else mask))
    return rows


def _listed(path: str, data: bytes) -> Iterator[dict[str, str]]:
    """The cells of each row of a table, by column."""
    try:
        for number, line in enumerate(csv.DictReader(lines(data, newline=""))):
            if number == _MOST_ROWS:
                raise ValueError(f"it lists more than {_MOST_ROWS} photos")
            yield line
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read the table {path}: {error}; save it as UTF-8") from error
    except (csv.Error, ValueError) as error:
        raise DataError(
            f"cannot read the table {path}: {error}; compare it with VisA's split_csv/1cls.csv"
        ) from error


def _is_name(text: str) -> bool:
    return text not in ("", ".", "..") and not set(text) & set("/\\\0")


def _place(root: str, inside: str, listed: str, where: str) -> str | None:
    """The file. Raises DataError where it lies outside of the root, also through links."""
    name = listed.replace("\\", "/")
    if not name:
        return None
    parts = PurePosixPath(name)
    leaves = parts.is_absolute() or ".." in parts.parts or bool(PureWindowsPath(name).drive)
    file = os.path.join(root, name)
    if not leaves and "://" not in root:
        try:
            leaves = not os.path.realpath(file).startswith(inside)
        except (OSError, ValueError):  # a NUL in it
            leaves = True
    if leaves or "\0" in name:
        raise DataError(
            f"{where} names {listed!r}, which is no place below {root}, "
            "where all of a table's files must be"
        )
    return file
