"""Which photos to score: those of a folder, of a glob, or listed on standard input."""

import glob
import logging
import operator
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from diffad_jax.data import listing
from diffad_jax.data.listing import DataError
from diffad_jax.data.photo import IMAGE_SUFFIXES
from diffad_jax.runtime import storage

logger = logging.getLogger(__name__)
STDIN = "-"
_MOST_LIST, _MOST_LINES = 2**28, 2**20  # bytes


class Photo(NamedTuple):
    """A file that should be a photo."""

    path: str  # as found, or as listed
    name: str  # the path below the listing's root: tells photos of one file name apart
    num_bytes: int | None  # None where there is no such file
    modified_ns: int | None


class Listing(NamedTuple):
    """Photos in the order in which they are scored; no file comes twice."""

    root: str  # absolute; all photos are below it
    photos: list[Photo]


def list_photos(
    source: Path | str, output: Path, wanted: Callable[[str], bool] = lambda _: True
) -> Listing:
    """Lists the photos of ``--input``, except those below ``output``.

    The root is the folder itself, a photo's folder, or a glob's part before its first wildcard. For
    a list it is the current folder, or / where a listed file is outside. Files and links that are
    found but not taken are logged.

    Args:
      source: a folder, searched as by ``listing.find_photos``; a photo; a glob, where ** is any
        depth; or - for a list on standard input, one path a line, blank lines ignored. The name of
        an existing file is that file, even with wildcards in it. A folder, a photo or a glob of *
        may lie in object storage (gs://…, s3://…).
      output: the folder of the results.
      wanted: whether a photo of this name is. Memory holds no others of a folder.

    Raises:
      DataError: no photo at all, or ``output`` is the root itself.
    """
    if storage.is_remote(os.fspath(source)):
        return _list_remote(os.fspath(source), wanted)
    root, found = _find(listing.expanded(source), os.path.abspath(output))
    below = os.path.join(os.path.abspath(output), "")
    here = os.path.join(root, "")
    if here == below:
        raise DataError(
            f"--output={output} holds the photos themselves: choose another folder; one inside is "
            "left out of the search"
        )
    notes: list[str] = []
    unique: dict[str, str] = {}  # name -> path
    is_empty = True
    for paths, said in found:
        notes += said
        for path in paths:
            absolute = os.path.abspath(path)
            if here.startswith(below) or not absolute.startswith(below):
                is_empty = False
                name = absolute.removeprefix(here)
                if wanted(name):
                    # Memory must not hold a million names twice.
                    unique.setdefault(path if name == path else name, path)
    if is_empty:
        raise DataError(
            "no photo listed on standard input: --input=- takes one path a line"
            if str(source) == STDIN
            else f"{'no photo in' if _may_be(source) else 'there is no'} {source}: --input must be "
            "a folder of images, a glob of images, or "
            f"- for a list on standard input ({', '.join(sorted(IMAGE_SUFFIXES))})"
            + "".join(f"; {note}" for note in sorted(notes)[:3])
        )
    for note in listing.cut_short(sorted(notes)):
        logger.warning("%s", note)
    photos = [Photo(path, name, *_stamp(path)) for name, path in unique.items()]
    if str(source) != STDIN:
        photos.sort(key=operator.attrgetter("path"))
    return Listing(root, photos)


def _list_remote(source: str, wanted: Callable[[str], bool]) -> Listing:
    photos, others, is_empty = [], [], True
    try:
        root, found = storage.find(source)
        for path, num_bytes, modified_ns in found:
            name = path.removeprefix(f"{root}/")
            if not listing.is_photo(path):
                others.append(path)
            elif not _is_hidden(name):
                is_empty = False
                if wanted(name):
                    photos.append(Photo(path, name, num_bytes, modified_ns))
    except Exception as error:  # each kind of storage has its own errors
        said = storage.reason(source, error)
        raise DataError(f"--input={source} cannot be listed: {said}") from error
    if is_empty:
        raise DataError(
            f"no photo in {source}: --input must be a folder or a glob of images there "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    for note in listing.describe_others(root, others):
        logger.warning("%s", note)
    return Listing(root, sorted(photos))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _may_be(source: Path) -> bool:
    """Whether the place exists, or is a glob."""
    name = listing.expanded(source)
    return os.path.exists(name) or glob.has_magic(name)


def _find(source: str, output: str) -> tuple[str, Iterable[tuple[Iterable[str], list[str]]]]:
    """The root; and part by part, paths and sentences on what is not taken."""
    if source == STDIN:
        paths = [listing.expanded(line) for line in _listed_lines()]
        root = os.path.join(os.getcwd(), "")
        inside = all(os.path.abspath(path).startswith(root) for path in paths)
        return os.getcwd() if inside else os.path.abspath(os.sep), [(paths, [])]
    if os.path.isdir(source):
        return os.path.abspath(source), listing.walk(source, output)
    literal, pattern = _split_glob(Path(source))
    if not pattern:  # a file
        return os.path.abspath(os.path.dirname(literal)), [([literal], [])]
    found = glob.glob(os.path.join(glob.escape(literal), pattern), recursive=True)
    photos = [path for path in found if listing.is_photo(path)]
    others = [path for path in found if not listing.is_photo(path) and not os.path.isdir(path)]
    said = listing.describe_others(literal or ".", others)
    return os.path.abspath(literal), [(photos, said)]


def _listed_lines() -> Iterator[str]:
    """The paths on standard input, which may be endless."""
    data = sys.stdin.buffer.read(_MOST_LIST + 1)
    try:
        if len(data) > _MOST_LIST:
            raise ValueError(f"it is longer than {_MOST_LIST >> 20} MiB")
        lines = listing.lines(data, "\n", "surrogateescape")
        for number, line in enumerate(filter(str.strip, lines)):
            if number == _MOST_LINES:
                raise ValueError(f"it has more than {_MOST_LINES} lines")
            yield line.removesuffix("\n").removesuffix("\r")
    except ValueError as error:
        raise DataError(
            f"cannot take the list on standard input: {error}; give the photos in several lists, "
            "or their folder as --input"
        ) from error


def _split_glob(source: Path) -> tuple[str, str]:
    """(the part that exists as written, the rest), such as ("photos [1]", "*.png")."""
    literal = Path()
    for i, part in enumerate(source.parts):
        if not os.path.lexists(literal / part):
            return ("" if i == 0 else str(literal)), os.path.join(*source.parts[i:])
        literal /= part
    return str(literal), ""


def _stamp(path: str) -> tuple[int | None, int | None]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # reading it will say why
        return None, None
    return status.st_size, status.st_mtime_ns
