"""Starting as one of several processes, and ending when asked to."""

import signal
import sys

import absl.flags
import jax

from diffad_jax.stopping import EXIT_STATUS

_DISTRIBUTED = absl.flags.DEFINE_bool(
    "distributed", False, "One of several processes, as Cloud TPU, Slurm or Open MPI tell."
)
_COORDINATOR = absl.flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
_COUNT = absl.flags.DEFINE_integer("num_processes", None, "Beside --coordinator.", lower_bound=1)
_INDEX = absl.flags.DEFINE_integer("process_id", None, "Beside --coordinator.", lower_bound=0)
# A process that is gone is missed after so long; the others then end instead of waiting for it.
HEARTBEAT_SECONDS = 30


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
