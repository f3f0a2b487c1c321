"""Files in object storage (gs://…, s3://…): listed at once, read ahead, with retries."""

import datetime
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from etils import epath
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from diffad_jax.runtime.batches import map_ahead

T = TypeVar("T")
REQUESTS = 32  # at once: each waits mostly for the network
_LISTS = 8  # folders that are listed at once
_PAUSES = (0.5, 2.0, 8.0)  # seconds before another try
_FINAL = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ImportError)


class Listed(NamedTuple):
    """A file in a bucket."""

    path: str
    num_bytes: int | None
    modified_ns: int | None


class Fetched(str):
    """A file's path, with its content."""

    data: bytes


def is_remote(path: str) -> bool:
    return "://" in path


def read(path: str, most_bytes: float) -> bytes:
    """All of a file in object storage.

    Raises:
      OSError: absent, or larger than ``most_bytes``; or the storage's error after four tries.
    """
    if isinstance(path, Fetched):
        return path.data
    if again(lambda: epath.Path(path).stat().length) > most_bytes:
        raise OSError(f"larger than {most_bytes / 2**20:g} MiB")
    return again(lambda: epath.Path(path).read_bytes())


def ahead(paths: Iterable[str], most_bytes: float, most_together: int) -> Iterator[str]:
    """The same paths; those in object storage with their content, read ahead by many threads.

    A file that cannot be read comes without content; opening it tells why.

    Args:
      paths: taken one by one; all local, or all in object storage.
      most_bytes: of a file.
      most_together: the most bytes that wait, one file excepted; each file counts as the largest so
        far.
    """
    paths = iter(paths)
    for first in itertools.islice(paths, 1):
        paths = itertools.chain([first], paths)
        if not is_remote(first):
            yield from paths
            return
    largest = 0

    def fetch(path: str) -> str:
        nonlocal largest
        try:
            found = Fetched(path)
            found.data = read(path, most_bytes)
        except Exception:  # each kind of storage has its own errors
            return path
        largest = max(largest, len(found.data))
        return found

    yield from map_ahead(
        fetch,
        paths,
        threads=REQUESTS,
        ahead=REQUESTS,
        cost=lambda _: largest,
        budget=most_together,
    )


def with_sizes(paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each path, local or in object storage, with its file's size in bytes.

    Raises:
      OSError: absent; or the storage's error after four tries.
    """

    def size(path: str) -> int:
        stat = epath.Path(path).stat
        return (again(stat) if is_remote(path) else stat()).length

    return map_ahead(lambda p: (p, size(p)), paths, threads=REQUESTS, ahead=REQUESTS)


def find(place: str) -> tuple[str, Iterator[Listed]]:
    """The folder that a place stands for, and the files below it.

    Args:
      place: a folder, a file, or a glob, where ** is any depth. Of a folder memory holds what lies
        in a few of its folders at a time.

    Raises:
      ImportError: the package of this kind of storage is not installed.
      OSError: absent, or an error of the storage; also while the files are taken.
    """
    system, path = url_to_fs(place)
    scheme = place.partition("://")[0]
    if "*" in path:
        found: Iterable[dict] = again(lambda: system.glob(path, detail=True)).values()
        root = path[: path.index("*")].rpartition("/")[0]
    else:
        about = again(lambda: system.info(path))
        is_file = about["type"] == "file"
        found = [about] if is_file else _below(system, path)
        root = path.rpartition("/")[0] if is_file else path
    listed = (
        _listed(f"{scheme}://{about['name'].lstrip('/')}", about)
        for about in found
        if about["type"] == "file"
    )
    return f"{scheme}://{root.strip('/')}", listed


def _below(system: AbstractFileSystem, folder: str) -> Iterator[dict[str, Any]]:
    """What is below a folder, as the storage describes it."""

    def entries(folder: str) -> list[dict[str, Any]]:
        found = again(lambda: system.ls(folder, detail=True))
        system.invalidate_cache(folder)  # which would keep them all
        return [about for about in found if about["name"].strip("/") != folder.strip("/")]

    level = [folder]
    while level:
        folders: list[str] = []
        for found in map_ahead(entries, level, threads=_LISTS, ahead=_LISTS):
            yield from found
            folders += [about["name"] for about in found if about["type"] == "directory"]
        level = folders


def look(place: str) -> Listed:
    """A file as the storage describes it.

    Raises:
      ImportError: as ``find``.
      OSError: absent, or a folder; or the storage's error after four tries.
    """
    system, path = url_to_fs(place)
    about = again(lambda: system.info(path))
    if about["type"] != "file":
        raise IsADirectoryError(f"{place} is a folder")
    return _listed(place, about)


def reason(place: str, error: Exception) -> str:
    """What an error of a storage says, and how to install a package that is missing."""
    said = str(error) or type(error).__name__
    if isinstance(error, ImportError):
        said += f": pip install 'diffad_jax[{place.partition('://')[0]}]'"
    return said


def _listed(path: str, about: dict[str, Any]) -> Listed:
    return Listed(path, about.get("size"), _modified(about))


def _modified(about: dict[str, Any]) -> int | None:
    """Each kind of storage has its own name for it, and its own type."""
    value = next(
        filter(None, map(about.get, ("LastModified", "updated", "mtime", "created"))), None
    )
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if isinstance(value, datetime.datetime):
        value = value.timestamp()
    return None if value is None else round(value * 1e6) * 1000


def again(call: Callable[[], T]) -> T:
    """The result of ``call``, tried four times because networks and servers fail for moments."""
    for pause in _PAUSES:
        try:
            return call()
        except _FINAL:
            raise
        except Exception:  # each kind of storage has its own errors
            time.sleep(pause)
    return call()
