"""The contents of folders: photos, sub-folders, and files that cannot be read as photos."""

import collections
import functools
import io
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from etils import epath

from diffad_jax.data.photo import IMAGE_SUFFIXES
from diffad_jax.errors import UserError
from diffad_jax.runtime import storage
from diffad_jax.runtime.regular import read_regular

_DOCUMENTS = frozenset(
    (".txt", ".md", ".csv", ".json", ".xml", ".yaml", ".yml", ".pdf", ".html", ".ini", ".db")
)  # nobody takes them for photos
_SHOWN_SUFFIXES = 6
_NORMAL_NAMES = ("good", "ok", "normal")
_SAID = 10  # places where something is not read
_MOST_TABLE_BYTES = 64 * 2**20
_MOST_LINE = 2**16  # characters


class DataError(UserError):
    """The data is not as it should be; the message names the place and the remedy."""


class Folder(NamedTuple):
    """Names in a folder, sorted, without hidden ones."""

    folders: list[str]
    photos: list[str]  # by their suffix
    others: list[str]  # all other files but documents


def list_folder(folder: str) -> Folder:
    """The contents of ``folder``; empty where it is missing.

    A link that leads nowhere counts as a file. So it is an error for its reader, and not one photo
    less without a word.

    Args:
      folder: local, or any path that etils.epath reads (``gs://…``).

    Raises:
      DataError: the folder cannot be read.
    """
    shown = Folder([], [], [])
    try:
        for name, is_folder in _entries(folder):
            if name.startswith("."):
                continue
            if is_folder:
                shown.folders.append(name)
            elif is_photo(name):
                shown.photos.append(name)
            elif os.path.splitext(name)[1].lower() not in _DOCUMENTS:
                shown.others.append(name)
    except (FileNotFoundError, NotADirectoryError):
        return Folder([], [], [])
    except Exception as error:  # each kind of storage has its own errors
        raise DataError(f"cannot read the folder {folder}: {_reason(error)}") from error
    for names in shown:
        names.sort()
    return shown


def find_photos(folder: str | os.PathLike[str], output: str = "") -> tuple[list[str], list[str]]:
    """All photos of ``walk``, sorted, and its sentences, sorted."""
    photos, notes = [], []
    for found, said in walk(folder, output):
        photos += found
        notes += said
    return sorted(photos), sorted(notes)


def walk(
    folder: str | os.PathLike[str], output: str = ""
) -> Iterator[tuple[Iterator[str], list[str]]]:
    """The photos of each folder below ``folder``, itself included, and sentences on what else is.

    Hidden files and the folder ``output`` (an absolute path) are left out. Links to folders are
    named, but not followed. Memory holds the names in one folder at a time.

    Raises:
      DataError: a folder cannot be read.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        parent = waiting.pop()
        found = list_folder(parent)
        notes = describe_others(parent, found.others)
        for path in (os.path.join(parent, name) for name in found.folders):
            if os.path.islink(path):
                notes.append(f"{path} is a link to a folder, which is not followed")
            elif not output or os.path.abspath(path) != output:
                waiting.append(path)
        yield map(functools.partial(os.path.join, parent), found.photos), notes


def describe_others(folder: str, names: Iterable[str]) -> list[str]:
    """One sentence on files whose suffix is no photo's; none where there are no such files."""
    suffixes = collections.Counter(os.path.splitext(n)[1].lower() or "no suffix" for n in names)
    if not suffixes:
        return []
    kinds = [f"{count} {suffix}" for suffix, count in suffixes.most_common(_SHOWN_SUFFIXES)]
    more = ["…"] if len(suffixes) > _SHOWN_SUFFIXES else []
    count = suffixes.total()
    return [
        f"{count} file{'s are' if count > 1 else ' is'} not read in {folder} "
        f"({', '.join(kinds + more)}): photos are {', '.join(sorted(IMAGE_SUFFIXES))}"
    ]


def cut_short(notes: Sequence[str]) -> list[str]:
    """The first sentences, and how many more there are."""
    left = len(notes) - _SAID
    return [*notes[:_SAID], *([f"{left} more such places"] if left > 0 else [])]


def is_photo(name: str) -> bool:
    """Whether the suffix is one of ``photo.IMAGE_SUFFIXES``, in any case."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_normal(name: str) -> bool:
    """Whether a folder's name or a label says that its photos are good."""
    return folded(name) in _NORMAL_NAMES


def matching(names: Iterable[str], wanted: str) -> str | None:
    """The name that equals ``wanted``, or else the first that differs in case or in how accents are
    coded (macOS splits them); None where there is none."""
    names = list(names)
    if wanted in names:
        return wanted
    return next((n for n in names if folded(n) == folded(wanted)), None)


def composed(name: str) -> str:
    """The name with accents coded in one way, whatever the system does."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """The name in one case and with one coding of accents, which systems change."""
    return composed(name).casefold()


def expanded(path: str | os.PathLike[str]) -> str:
    """The path with the user's home folder for a leading ~."""
    return os.path.expanduser(os.fspath(path))


def read_table(path: str) -> bytes | None:
    """The content of a table, for ``lines``; None where there is no such file.

    Raises:
      DataError: it is no regular file, too large, or not to be read.
    """
    try:
        read = storage.read if storage.is_remote(path) else read_regular
        return read(path, _MOST_TABLE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # each kind of storage has its own errors
        raise DataError(
            f"cannot read the table {path}: {_reason(error)}; put the table itself there"
        ) from error


def lines(data: bytes, newline: str, errors: str = "strict") -> Iterator[str]:
    """The lines of a text with their ends, in bounded memory.

    Args:
      data: UTF-8, or UTF-16 with its mark (as PowerShell writes); the mark is dropped.
      newline: as ``open`` takes it.
      errors: likewise.

    Raises:
      ValueError: a line is longer than 64 Ki characters, or of another coding.
    """
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = io.TextIOWrapper(
        io.BytesIO(data), "utf-16" if is_utf16 else "utf-8-sig", errors, newline
    )
    while line := text.readline(_MOST_LINE + 1):
        if len(line) > _MOST_LINE:
            raise ValueError(f"a line is longer than {_MOST_LINE} characters")
        yield line


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """The names in a folder, and whether each is a folder."""
    if storage.is_remote(folder):
        place = epath.Path(folder)
        paths = storage.again(lambda: list(place.iterdir()) if place.is_dir() else [])
        # In a bucket each question costs a request, so a photo's name is believed.
        yield from ((p.name, not is_photo(p.name) and p.is_dir()) for p in paths)
        return
    with os.scandir(folder) as entries:
        yield from ((e.name, _is_folder(e)) for e in entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _reason(error: Exception) -> object:
    return getattr(error, "strerror", None) or error
