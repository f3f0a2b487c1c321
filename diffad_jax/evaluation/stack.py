"""Pictures of a test set on the disk, because memory may not hold them."""

import os
import tempfile
from pathlib import Path

import numpy as np

from diffad_jax.errors import UserError


class StackError(UserError):
    """The disk is full or refuses evaluation's files; the message names folder and remedy."""


class Stack:
    """Arrays of one shape and type in a file: appended in batches, read one at a time.

    The file has no name, so that nothing is left of it when the program ends, however it ends.
    Several threads may read.

    Args:
      folder: whose disk holds the file; it is made.
      shape: of one array.
      dtype: of all.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: type):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = None  # where it cannot be made
        self._folder, self._item, self.dtype = folder, shape, np.dtype(dtype)
        self._bytes = int(np.prod(shape)) * self.dtype.itemsize
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 see __del__
        self._count = 0

    def append(self, batch: np.ndarray) -> None:
        """Adds [b, *shape] of the stack's type.

        Raises:
          ValueError: another shape or type.
          StackError: the disk is full or refuses.
        """
        if batch.shape[1:] != self._item or batch.dtype != self.dtype:
            raise ValueError(
                f"a stack of {self.dtype} {self._item} got {batch.dtype} {batch.shape[1:]}"
            )
        left = memoryview(np.ascontiguousarray(batch)).cast("B") if batch.size else b""
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise StackError(
                f"cannot write the test photos' maps to {self._folder} ({error.strerror}): make "
                "room there or choose another --workdir"
            ) from error
        self._count += len(batch)

    def __del__(self):
        if self._file is not None:
            self._file.close()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._count, *self._item)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < self._count:
            raise IndexError(f"{index} of a stack of {self._count}")
        data = os.pread(self._file.fileno(), self._bytes, int(index) * self._bytes)
        return np.frombuffer(data, self.dtype).reshape(self._item)
