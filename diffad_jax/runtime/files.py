"""Files and folders that exist whole or not at all, even after a kill or a power cut."""

import contextlib
import errno
import logging
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from diffad_jax.errors import UserError
from diffad_jax.runtime import regular

logger = logging.getLogger(__name__)
_TEMPORARY = re.compile(r"\..*\.(.*)-([0-9]{1,9})-[0-9a-f]{8}\.tmp")
HALF_CHECKPOINT = ".orbax-checkpoint-tmp"  # follows the step in the name of one being written
_LONG_AGO = 24 * 3600  # seconds


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path to write a file or a folder to, which then becomes ``path``.

    Its content is on the disk before it gets its name, and afterwards the name is, too. So after a
    kill or a power cut either the old or the new is there. A file replaces an earlier one; a folder
    does not. The folder of ``path`` is made. A killed process leaves ``.NAME.….tmp`` behind, see
    ``remove_leftovers``.

    Raises:
      OSError: the disk is full; a folder is there already.
    """
    make_folder(path.parent)
    # No two processes write to the same one; a long name stays within what file systems take.
    writer = f"{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary = path.with_name(f".{path.name[:32]}.{writer}.tmp")
    try:
        yield temporary
        give_name(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def give_name(written: Path, path: Path) -> None:
    """Renames the temporary file or folder to ``path``, once all of it is on the disk."""
    sync_all(written)
    written.replace(path)
    sync(path.parent)


def remove_leftovers(folder: Path, *, below: bool = False) -> None:
    """Removes half-written files of killed processes in a folder, and ``below`` it.

    These are temporary files of ``whole`` from an ended process of this machine, or files that
    nobody has touched for a day.
    """
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            made = _TEMPORARY.fullmatch(name)
            if made and _is_left(Path(parent, name), *made.groups()):
                _remove(Path(parent, name))
                logger.warning(
                    "%s/%s: left half-written by a killed process, removed", parent, name
                )
        if not below:
            return


def is_temporary(name: str) -> bool:
    """Whether a file or folder is one that ``whole`` writes to."""
    return bool(_TEMPORARY.fullmatch(name))


def _is_left(path: Path, machine: str, process: str) -> bool:
    try:
        if machine == _machine():
            os.kill(int(process), 0)
        return time.time() - path.stat().st_mtime > _LONG_AGO
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's, or gone
        return False


def _machine() -> str:
    return socket.gethostname().replace(".", "_")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def require_new(overwrite: bool, *paths: Path) -> None:
    """Raises UserError if one of the files is there already, unless it may be replaced."""
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise UserError(
            f"{there[0]} is there already: choose another --output, or replace it with --overwrite"
        )


def write_whole(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; its folder is made.

    Bytes that are no text, as in some files' names, become question marks.
    """
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def relocate(folder: Path, target: Path) -> None:
    """Moves a folder within a file system; an earlier one at ``target`` is deleted first."""
    make_folder(target.parent)
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)
    sync(target.parent)
    sync(folder.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, and waits until their names are on the disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        # Some shared file systems cannot do it for a folder, and keep its names in order anyway.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(file)


def sync_all(path: Path) -> None:
    """``sync`` for a file, or for a folder and all that is in it."""
    for below in path.rglob("*") if path.is_dir() else ():
        sync(below)
    sync(path)


def read_json(path: Path) -> dict:
    """The object in a small JSON file that can be made again; {} where it is absent or damaged.

    Raises:
      OSError: the path is no readable file.
    """
    try:
        content = regular.read_json(path)
    except FileNotFoundError:
        return {}
    except ValueError:
        content = None
    if not isinstance(content, dict):
        logger.warning("%s is damaged and made anew", path)
        return {}
    return content
