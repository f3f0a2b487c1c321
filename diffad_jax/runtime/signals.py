"""Being stopped: a signal becomes a request that is granted between two steps or batches."""

import os
import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils

from diffad_jax.runtime import console

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: all is saved, start me again


class Stopped(SystemExit):
    """The work was asked to stop and is saved; ends the program with ``EXIT_STATUS``."""

    def __init__(self, message: str):
        console.note(message)
        super().__init__(EXIT_STATUS)


class StopSignal:
    """While entered, SIGTERM and SIGINT (Ctrl-C) ask for a stop; a second one ends at once.

    In another thread than the main one, where Python hears of no signal, nothing asks.

    With several processes, JAX's own preemption service listens for SIGTERM and has all of them
    stop at the same step, whichever got the signal; Cloud TPU sends it before it takes a machine
    away.
    """

    def __init__(self) -> None:
        self._several = jax.process_count() > 1
        self.received = False  # by this process
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def requested(self, step: int) -> bool:
        """Whether to stop after ``step``; all processes get the same answer."""
        if self._several:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        signal.signal(number, self._before[number])
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
