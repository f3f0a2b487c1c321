"""Zip archives whose table of contents takes bounded memory."""

import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO


def open_zip(opened: Callable[[], BinaryIO], most_contents: int) -> zipfile.ZipFile:
    """The archive in a file, which is closed with it.

    Args:
      opened: opens the archive.
      most_contents: bytes that its table of contents may have.

    Raises:
      ValueError: it has more.
      Exception: a damaged archive makes ``zipfile`` raise almost anything.
    """
    sparing = _Sparing(opened, most_contents)
    try:
        archive = zipfile.ZipFile(sparing)
    except BaseException:
        sparing.close()
        raise
    sparing.most = None
    return archive


class _Sparing:
    """A file that refuses large reads.

    A table of contents is read at once, and Python needs ten times its size in memory.
    """

    def __init__(self, opened: Callable[[], BinaryIO], most: int | None):
        self._file: BinaryIO | None = None
        self.most = most
        # Python finalises the oldest object of a cycle first: this one, which closes its file.
        self._file = opened()

    def read(self, size: int = -1) -> bytes:
        if self.most is not None and size > self.most:
            raise ValueError(f"{size} bytes in one piece")
        return self._file.read(size)

    def __del__(self) -> None:  # an archive does not close a file that was passed to it
        if self._file is not None:
            self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
