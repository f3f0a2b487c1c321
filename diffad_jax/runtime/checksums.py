"""SHA-256 of a folder's files, for checkpoints and exported models.

Exported models carry a copy of this file and of the file that it imports.
"""

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Any

from diffad_jax.runtime import regular

_MOST_BYTES = 2**36  # of a file: what is larger was not written here


def of_file(path: Path) -> str:
    """64 hexadecimal digits. Raises OSError, see ``open_regular``."""
    with regular.open_regular(path, _MOST_BYTES) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_folder(folder: Path) -> dict[str, str]:
    """The checksum of every file below a folder, by its path relative to it, with ``/``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): of_file(path) for path in files}


def fault(folder: Path, sums: Any) -> str:
    """The faults of a folder's files; empty if there are none.

    Args:
      folder: of the files.
      sums: a stored result of ``of_folder``, which may be damaged in any way.
    """
    if not isinstance(sums, dict) or not sums:
        return "the list of checksums is empty or damaged"
    for name, expected in sums.items():
        if not _is_below(name) or not re.fullmatch("[0-9a-f]{64}", str(expected)):
            return "the list of checksums is damaged"
        try:
            if not (folder / name).is_file():
                return f"{name} is missing"
            if of_file(folder / name) != expected:
                return f"{name} has changed since it was written"
        except OSError as error:
            return f"{name} is unreadable ({error.strerror})"
    return ""


def _is_below(name: Any) -> bool:
    """Whether a path leads to a place below the folder that it is relative to."""
    if not isinstance(name, str) or not name.isprintable() or re.search(r"[\\:]", name):
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and name not in ("", ".")
