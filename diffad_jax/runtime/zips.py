"""Zip archives whose table of contents takes bounded memory."""

import zipfile
from typing import Any, BinaryIO


def open_zip(file: BinaryIO, most_contents: int) -> zipfile.ZipFile:
    """The archive in an open file, which is closed with it.

    Args:
      file: the archive.
      most_contents: bytes that its table of contents may have.

    Raises:
      ValueError: it has more.
      Exception: a damaged archive makes ``zipfile`` raise almost anything.
    """
    sparing = _Sparing(file, most_contents)
    try:
        archive = zipfile.ZipFile(sparing)
    except BaseException:
        file.close()
        raise
    sparing.most = None
    return archive


class _Sparing:
    """A file that gives no large pieces.

    A table of contents is read in one, and Python makes ten times as much of it.
    """

    def __init__(self, file: BinaryIO, most: int | None):
        self._file, self.most = file, most

    def read(self, size: int = -1) -> bytes:
        if self.most is not None and size > self.most:
            raise ValueError(f"{size} bytes in one piece")
        return self._file.read(size)

    def __del__(self) -> None:  # an archive leaves a file open that it was given
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
