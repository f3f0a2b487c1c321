"""Starting as one of several processes, and ending when asked to, or when another one is gone."""

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import NoReturn

import absl.flags
import jax

from diffad_jax.errors import UserError
from diffad_jax.runtime import console
from diffad_jax.runtime.signals import EXIT_STATUS, Stopped

_DISTRIBUTED = absl.flags.DEFINE_bool(
    "distributed", False, "One of several processes, as Cloud TPU, Slurm or Open MPI tell."
)
_COORDINATOR = absl.flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
_COUNT = absl.flags.DEFINE_integer("num_processes", None, "Beside --coordinator.", lower_bound=1)
_INDEX = absl.flags.DEFINE_integer("process_id", None, "Beside --coordinator.", lower_bound=0)
# A process that is gone is missed after so long, where no broken connection tells it at once.
HEARTBEAT_SECONDS = 30
# The exit status of the others: start all of us again. JAX itself then ends a process by SIGABRT,
# which is 134 in a shell, so that a launcher sees the same whoever noticed it first.
LOST_STATUS = 134
_LAST_SECONDS = 3  # process 0 leaves so much later, for the others to say their own
# What JAX's errors say when another process is gone.
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


@contextlib.contextmanager
def exit_together_on_failure() -> Iterator[None]:
    """One of several processes that fails inside ends, and does not wait for the others for long.

    JAX would have it wait minutes at the exit, while they wait for its share of a step. Where it
    fails because another one is gone, it says so and ends with ``LOST_STATUS``.
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
    """Ends the program at once, past what JAX and threads in the background do at the exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.distributed.is_initialized():  # the others may fail alike; then all end together
        together = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        together.start()
        together.join(HEARTBEAT_SECONDS)
    os._exit(status)


def _tells_that_another_is_gone(error: BaseException) -> bool:
    """Of a step that fails JAX makes its own error, of one that it cannot start a ValueError."""
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
