"""Several processes of one job: how they start, share work, and end together."""

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import absl.flags
import jax
from jax.experimental import multihost_utils

from diffad_jax.errors import UserError
from diffad_jax.runtime import console
from diffad_jax.runtime.signals import EXIT_STATUS, Stopped

_DISTRIBUTED = absl.flags.DEFINE_bool(
    "distributed", False, "One of several processes, as Cloud TPU, Slurm or Open MPI tell."
)
_COORDINATOR = absl.flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
_COUNT = absl.flags.DEFINE_integer("num_processes", None, "Beside --coordinator.", lower_bound=1)
_INDEX = absl.flags.DEFINE_integer("process_id", None, "Beside --coordinator.", lower_bound=0)
# After so long a lost process is noticed, if no broken connection shows it at once.
HEARTBEAT_SECONDS = 30
# The exit status of the others: start all processes again. JAX itself ends a process by SIGABRT,
# which is 134 in a shell. So a launcher sees the same status, whichever noticed it first.
LOST_STATUS = 134
_LAST_SECONDS = 3  # process 0 ends so much later, so that the others can print their errors
# Texts of JAX's errors when another process is gone.
_GONE = ("Gloo", "NCCL", "UNAVAILABLE", "heartbeat", "Connection reset", "Connection closed")


def start() -> None:
    """Joins the other processes, if there are any.

    Until training takes over, SIGTERM ends the program with the status that means "start me again":
    every file is written whole or not at all, so nothing is lost.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_STATUS))
    if _DISTRIBUTED.value or _COORDINATOR.value:
        jax.distributed.initialize(
            _COORDINATOR.value,
            _COUNT.value,
            _INDEX.value,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )


def share_out(count: int, work: Callable[[int], Any]) -> Iterator[Any]:
    """``work(i)`` for i = 0 … count - 1, in turn and in all processes; each does its share.

    Args:
      count: the same in all processes.
      work: returns a tree of NumPy arrays, of the same shapes for each i. They are passed on
        unchanged, to the bit.
    """
    num, index = jax.process_count(), jax.process_index()
    if num == 1:
        yield from map(work, range(count))
        return
    for first in range(0, count, num):
        mine = work(min(first + index, count - 1))  # where none is left it does the last one, too
        of_all = multihost_utils.process_allgather(mine)
        for k in range(min(num, count - first)):
            yield jax.tree.map(lambda x, k=k: x[k], of_all)


@contextlib.contextmanager
def one_writes(folder: Path) -> Iterator[Path]:
    """``folder`` for process 0. The others do the same work, but print and keep nothing."""
    if jax.process_index() == 0:
        yield folder
        return
    with (
        tempfile.TemporaryDirectory() as elsewhere,
        contextlib.redirect_stdout(None),
        contextlib.redirect_stderr(None),
    ):
        yield Path(elsewhere)


@contextlib.contextmanager
def exit_together_on_failure() -> Iterator[None]:
    """Ends a process of several that fails inside, without a long wait for the others.

    JAX would let it wait for minutes at the exit, while the others wait for its share of a step. If
    it fails because another process is gone, it says so and ends with ``LOST_STATUS``.
    """
    try:
        yield
    except Stopped:  # as all of them
        raise
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        if _tells_that_another_is_gone(error):
            _say_that_another_is_gone(error)
            os._exit(LOST_STATUS)
        end(_say_what_failed(error))


def end(status: int) -> NoReturn:
    """Ends the program at once, without JAX's and other threads' work at the exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.distributed.is_initialized():  # the others may fail alike; then all end together
        together = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        together.start()
        together.join(HEARTBEAT_SECONDS)
    os._exit(status)


def _tells_that_another_is_gone(error: BaseException) -> bool:
    """Whether an error means that: JAX's own from a failed step, a ValueError before a step."""
    of_jax = isinstance(error, jax.errors.JaxRuntimeError | ValueError)
    return of_jax and not isinstance(error, UserError) and any(s in str(error) for s in _GONE)


def _say_that_another_is_gone(error: BaseException) -> None:
    index, count = jax.process_index(), jax.process_count()
    console.note(
        f"process {index}: another of the {count} is gone ({str(error).splitlines()[0]}); "
        "the same commands go on from the last checkpoint"
    )
    if index == 0:  # JAX aborts the others as soon as it is gone
        time.sleep(_LAST_SECONDS)


def _say_what_failed(error: BaseException) -> int:
    """Returns the exit status."""
    if isinstance(error, SystemExit):  # it has been said
        return error.code if isinstance(error.code, int) else 1
    traceback.print_exception(error)
    return 1
