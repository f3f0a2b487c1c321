"""Opens files that a user names: only regular ones, and only up to a size.

Nothing of this package is imported here: exported models carry a copy of this file.
"""

import errno
import json
import os
import stat
from typing import Any, BinaryIO

MOST_JSON = 2**26  # bytes
_PIECE = 2**20  # bytes
_MOST_WIDE = 2**24  # bytes of JSON where one character makes Python take 4 bytes for each
_MOST_VALUES = 2**18  # in a JSON file; a split with that number of photos takes 30 MiB
# Without these flags a pipe without a writer blocks; Windows has neither flag.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: str | os.PathLike[str], most_bytes: float | None = None) -> BinaryIO:
    """The file, opened to be read. Links are followed.

    Raises:
      OSError: absent or unreadable; a folder, pipe, socket or device; more than ``most_bytes``.
        ``strerror`` explains it to users.
    """
    _check(path, os.stat(path), most_bytes)  # first, because opening alone can move a device
    file = os.fdopen(os.open(path, _FLAGS), "rb")
    try:
        _check(path, os.fstat(file.fileno()), most_bytes)
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """All of the file; see ``open_regular``."""
    with open_regular(path, most_bytes) as file:
        data = file.read(os.fstat(file.fileno()).st_size)  # Python allocates all of it
        # It may have grown, and those of /proc give no size.
        while len(data) <= most_bytes and (more := file.read(_PIECE)):
            data += more
    if len(data) > most_bytes:
        raise _too_large(path, most_bytes)
    return data


def read_json(path: str | os.PathLike[str], most_bytes: int = MOST_JSON) -> Any:
    """The content of a JSON file.

    Raises:
      OSError: see ``read_regular``.
      ValueError: it is no JSON, or larger than any that is meant to be read.
    """
    return parsed_json(read_regular(path, most_bytes))


def parsed_json(data: bytes) -> Any:
    """The content of a JSON text; its length bounds the memory.

    Raises:
      ValueError: see ``read_json``.
    """
    check_json(data)
    if len(data) > _MOST_WIDE and not (data.isascii() and b"\\u" not in data):
        raise ValueError(f"over {_MOST_WIDE >> 20} MiB with characters beyond ASCII")
    try:
        return json.loads(data.decode())
    except RecursionError:
        raise ValueError("values nested too deep") from None


def check_json(data: bytes) -> None:
    """Raises ValueError for a JSON text with too many values for bounded memory."""
    if sum(map(data.count, b",[{")) > _MOST_VALUES:  # Python makes 64 bytes of two, "[]"
        raise ValueError(f"more than {_MOST_VALUES} values")


def _check(
    path: str | os.PathLike[str], status: os.stat_result, most_bytes: float | None = None
) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ENXIO, "no regular file, but a pipe, a socket or a device", path)
    if most_bytes is not None and status.st_size > most_bytes:
        raise _too_large(path, most_bytes)


def _too_large(path: str | os.PathLike[str], most_bytes: float) -> OSError:
    return OSError(errno.EFBIG, f"larger than {most_bytes / 2**20:g} MiB", path)
