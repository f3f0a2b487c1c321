"""Which photos to score: those of a folder, of a glob, or listed on standard input."""

import glob
import itertools
import os
import sys
from pathlib import Path
from typing import NamedTuple

from diffad_jax.data import images, layouts

STDIN = "-"


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


def list_photos(source: Path, output: Path) -> Listing:
    """Lists the photos of ``--input``; what lies below ``output`` is left out.

    The root is the folder; a glob's part before its first wildcard; and for a list the current
    folder, or / where a listed file is outside.

    Args:
      source: a folder, searched as by ``images.find_images``; a glob, where ** is any depth; or -
        for a list on standard input, one path a line, blank lines ignored.
      output: the folder of the results.

    Raises:
      layouts.DataError: no photo, or ``output`` is the root itself.
    """
    source = source.expanduser()
    root, paths = _find(source)
    below = os.path.join(os.path.abspath(output), "")
    here = os.path.join(root, "")
    if here == below:
        raise layouts.DataError(
            f"--output={output} holds the photos themselves: choose another folder; one inside is "
            "left out of the search"
        )
    unique: dict[str, str] = {}
    for path in paths:
        absolute = os.path.abspath(path)
        if here.startswith(below) or not absolute.startswith(below):
            unique.setdefault(absolute, path)
    if not unique:
        raise layouts.DataError(
            "no photo listed on standard input: --input=- takes one path a line"
            if str(source) == STDIN
            else f"no photo in {source}: --input must be a folder of images, a glob of images, or "
            f"- for a list on standard input ({', '.join(sorted(layouts.IMAGE_SUFFIXES))})"
        )
    photos = [Photo(p, a.removeprefix(here), *_stamp(p)) for a, p in unique.items()]
    return Listing(root, photos)


def _find(source: Path) -> tuple[str, list[str]]:
    """The root, and paths in order."""
    if str(source) == STDIN:
        lines = (os.fsdecode(line).strip("\r\n") for line in sys.stdin.buffer)
        paths = [line for line in lines if line.strip()]
        root = os.path.join(os.getcwd(), "")
        inside = all(os.path.abspath(path).startswith(root) for path in paths)
        return os.getcwd() if inside else os.path.abspath(os.sep), paths
    if source.is_dir():
        return os.path.abspath(source), images.find_images(source)
    plain = itertools.takewhile(lambda part: not glob.has_magic(part), source.parts[:-1])
    found = glob.glob(str(source), recursive=True)
    is_image = (os.path.splitext(path)[1].lower() in layouts.IMAGE_SUFFIXES for path in found)
    return os.path.abspath(Path(*plain)), sorted(itertools.compress(found, is_image))


def _stamp(path: str) -> tuple[int | None, int | None]:
    try:
        status = os.stat(path)
    except OSError:  # reading it will say why
        return None, None
    return status.st_size, status.st_mtime_ns
