"""A lock for one writer in a folder; it is released when its process ends, however it ends."""

import contextlib
import datetime
import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import jax
import numpy as np
from jax.experimental import multihost_utils

from diffad_jax.errors import UserError
from diffad_jax.runtime import console, files, regular

logger = logging.getLogger(__name__)
NAME = ".lock"  # stays when its holder has ended: deleting it would let two processes hold it
_MOST_TEXT = 2**10  # bytes
_PAUSE = 0.2  # seconds between two looks at whether it is free
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class LockedError(UserError):
    """Another process writes to the folder; the message names both."""


@contextlib.contextmanager
def hold(folder: Path, *, waits: bool = False) -> Iterator[None]:
    """While entered, no other process or job can enter for this folder, which is made.

    Half-written files of killed processes are removed from it.

    In a job of several processes, process 0 holds the lock for all. A shared folder is locked for
    all machines if its file system has locks; if not, a warning says so.

    Args:
      folder: is made.
      waits: for the end of another process that holds it.

    Raises:
      LockedError: another process holds it.
      OSError: no lock can be there.
    """
    files.make_folder(folder)
    path = folder / NAME
    with contextlib.ExitStack() as stack:
        holder = ""
        if jax.process_index() == 0:
            file = stack.enter_context(_opened(path))
            holder = (_wait_for if waits else _lock)(file.fileno(), path)
        held = not holder
        if jax.process_count() > 1:
            held = bool(multihost_utils.broadcast_one_to_all(np.int32(held)))
        if not held:
            raise LockedError(
                f"{folder}: {holder or 'another process'} is writing here. "
                "Wait for its end or stop it, or choose another folder."
            )
        if jax.process_index() == 0:
            stack.callback(os.ftruncate, file.fileno(), 0)
            files.remove_leftovers(folder, below=True)
        yield


@contextlib.contextmanager
def wait(folder: Path) -> Iterator[None]:
    """While entered, no other process is in here for this folder, which is made; waits its turn.

    Each process enters for itself, also in one job, as its folders may lie on several machines.

    Raises:
      OSError: no lock can be there.
    """
    files.make_folder(folder)
    path = folder / NAME
    with _opened(path) as file:
        _wait_for(file.fileno(), path)
        try:
            yield
        finally:
            os.ftruncate(file.fileno(), 0)


def _opened(path: Path) -> TextIO:
    if path.exists():
        regular.open_regular(path).close()
    return path.open("a+", encoding="utf-8")


def _wait_for(file: int, path: Path) -> str:
    """Like ``_lock``, once it is free."""
    told = False
    while holder := _lock(file, path):
        if not told:
            console.note(f"{path.parent}: {holder} is writing here; waiting for its end")
        told = True
        time.sleep(_PAUSE)
    return holder


def _lock(file: int, path: Path) -> str:
    """Locks an open file and writes its holder into it; or returns another holder's name."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with regular.open_regular(path) as text:
            return text.read(_MOST_TEXT).decode(errors="replace").strip() or "another process"
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("%s: this file system has no locks (%s): start no second process that "
                       "writes there", path.parent, error.strerror)  # fmt: skip
    os.ftruncate(file, 0)
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}, since {since},\n".encode())
    os.fsync(file)  # for other machines to see
    return ""
