"""Turns signals into requests to stop, which are granted between two steps or batches."""

import os
import signal
import sys
import threading
from types import FrameType

import jax
import tqdm
from jax.experimental import multihost_utils

from diffad_jax.runtime import console

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: all is saved, start me again
INTERRUPTED = 130  # as shells say it of Ctrl-C
ENDED = "stopped"
_STOPPING = "stopping once what has begun is done and saved; Ctrl-C again ends at once"
_PATIENCE = 1.0  # seconds in which the program may end by itself


class Stopped(SystemExit):
    """The work was asked to stop, and is saved; ends the program with ``EXIT_STATUS``."""

    def __init__(self, message: str):
        console.note(message)
        super().__init__(EXIT_STATUS)


class Interruptible:
    """While entered, Ctrl-C ends the program within a second, whatever it does.

    Python's main thread notices a signal only after running C++ code, and a compilation takes a
    minute. Another thread notices it at once. Files are written whole or not at all, so nothing is
    lost.

    Args:
      asks: whether the first Ctrl-C only asks; a note then says what a second one does.
    """

    def __init__(self, asks: bool = False):
        self._asks, self._over = asks, threading.Event()
        self._ends: tuple[int, int] | None = None  # of a pipe of signals' numbers

    def __enter__(self) -> "Interruptible":
        if threading.current_thread() is threading.main_thread():
            self._ends = os.pipe()
            os.set_blocking(self._ends[1], False)
            self._before = signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._ends is not None:
            self._over.set()
            signal.set_wakeup_fd(self._before)
            os.close(self._ends[1])
            self._thread.join()
            os.close(self._ends[0])

    def _watch(self) -> None:
        while number := os.read(self._ends[0], 1):
            if number[0] != signal.SIGINT:
                continue
            if self._asks:
                self._asks = False
                with tqdm.tqdm.external_write_mode(file=sys.stderr):
                    console.note(_STOPPING)
            elif not self._over.wait(_PATIENCE):
                console.note(ENDED)
                os._exit(INTERRUPTED)


class StopSignal:
    """While entered, SIGTERM and SIGINT (Ctrl-C) ask for a stop; a second one ends at once.

    Outside the main thread Python gets no signal, so nothing asks.

    With several processes, JAX's own preemption service listens for SIGTERM and stops all of them
    at the same step, whichever got the signal. Cloud TPU sends it before it takes a machine away.
    """

    def __init__(self) -> None:
        self._several = jax.process_count() > 1
        self.received = False  # by this process
        self._before: dict[int, object] = {}
        self._second = Interruptible(asks=True)

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)
        self._second.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._second.__exit__(*error)
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
