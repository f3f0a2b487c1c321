"""How work shows itself: a bar on a terminal, plain lines elsewhere; and how fast it is."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import jax
import tqdm

from diffad_jax.runtime import console
from diffad_jax.runtime.peaks import peak_flop_per_second
from diffad_jax.runtime.progress import BAR, COMPILING, EVERY, about, clock

_TIMED = 5.0  # seconds of steps after which the time left is told


class Progress:
    """Shows steps, loss, images/s and time left of one stage; only process 0 shows anything.

    Speeds are those since the last ``update``; they and the time left leave out the compilation and
    the first step.

    Args:
      title: of the stage.
      start: steps that were done before.
      total: steps that it has.
      batch_size: images of a step.
      dtype: that it computes in.
      flop_after: gives the FLOP of the stages after it, which are expected to go as fast. It is
        called once, when the first steps were timed.
    """

    def __init__(
        self,
        title: str,
        start: int,
        total: int,
        batch_size: int,
        dtype: str,
        flop_after: Callable[[], float] = lambda: 0.0,
    ):
        self._title, self._total, self._batch_size = title, total, batch_size
        self._first: int | None = None  # the first step that this run did
        self._last, self._last_time = start, time.monotonic()
        self._started = self._last_time
        self._speaks = jax.process_index() == 0
        self._waited, self._flop, self._flop_after = 0.0, 0.0, flop_after
        self._later: float | None = None  # FLOP of later stages, once it is asked for
        self._shown = -EVERY
        peak = peak_flop_per_second(jax.devices()[0].device_kind, dtype)
        self._peak = peak and peak * jax.device_count()
        self._interactive = self._speaks and sys.stderr.isatty()
        self._bar = tqdm.tqdm(
            total=total,
            initial=start,
            desc=title,
            disable=not self._interactive,
            bar_format=BAR,
            leave=False,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Says how long the inside took; speeds begin behind it."""
        started = time.monotonic()
        if self._interactive:
            self._bar.set_postfix_str(COMPILING)
        else:
            self._say(f"{self._title}: {COMPILING}")
        yield
        now = time.monotonic()
        self._say(f"{self._title}: compiled in {now - started:.1f} s")
        self._last_time = now
        self._waited = 0.0

    def count_work(self, flop: float) -> None:
        """How many floating-point operations a step takes, see ``flops.count``."""
        self._flop = flop

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Counts the time inside as time without work."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    def done(self, step: int) -> None:
        """Moves the bar to ``step``; what is left is counted from the first one on."""
        if self._first is None:
            self._first, self._started = step, time.monotonic()
        self._bar.update(step - self._bar.n)

    def update(self, step: int, metrics: dict[str, float]) -> dict[str, float | None]:
        """Shows ``step``, which is done; returns how fast it went since the last update."""
        now = time.monotonic()
        seconds = (now - self._last_time) / (step - self._last)
        images = self._batch_size / seconds
        memory = jax.local_devices()[0].memory_stats() or {}
        speed = {
            "images_per_second": images,
            "seconds_per_step": seconds,
            "share_waiting_for_data": self._waited / (now - self._last_time),
            "flop_per_second": self._flop / seconds,
            "utilisation": self._peak and self._flop / seconds / self._peak,  # None: peak unknown
            "device_memory_bytes": memory.get("peak_bytes_in_use"),
        }
        self._last, self._last_time, self._waited = step, now, 0.0
        said = [f"loss {metrics['loss']:.4g}", f"{images:.1f} images/s", self._left(step, now)]
        text = ", ".join(filter(None, said))
        if self._interactive:
            self._bar.set_postfix_str(text)
        elif step == self._total or now - self._shown >= EVERY:
            self._shown = now
            self._say(f"{self._title}: step {step}/{self._total}, {text}")
        return speed

    def _left(self, step: int, now: float) -> str:
        """The time left, of the stage and of all; empty before enough steps were timed."""
        if self._first is None or step == self._first:
            return ""
        if now - self._started < _TIMED and step < self._total:
            return ""
        a_step = (now - self._started) / (step - self._first)
        left = (self._total - step) * a_step
        if self._later is None:
            self._later = self._flop_after() if step < self._total else 0.0
            if self._later:
                whole = left + self._in_seconds(self._later, a_step)
                self._say(f"{self._title}: {about(whole)} of training left, if later stages "
                          "compute as fast as these first steps")  # fmt: skip
        later = self._in_seconds(self._later, a_step)
        return f"{clock(left)} left" + (f", {clock(left + later)} of all stages" if later else "")

    def _in_seconds(self, flop: float, a_step: float) -> float:
        return flop / self._flop * a_step if self._flop else 0.0

    def _say(self, text: str) -> None:
        if self._speaks:
            with tqdm.tqdm.external_write_mode(file=sys.stderr):
                console.note(text)
