"""How work shows itself: a bar on a terminal, plain lines elsewhere; and how fast it is."""

import contextlib
import sys
import time
from collections.abc import Iterator

import jax
import tqdm

from diffad_jax.runtime import console
from diffad_jax.runtime.peaks import peak_flop_per_second


class Progress:
    """Shows steps, loss, images/s and time left of one stage; only process 0 shows anything.

    Speeds are those since the last ``update``; they and the time left leave out the compilation.
    """

    def __init__(self, title: str, start: int, total: int, batch_size: int, dtype: str):
        self._title, self._total, self._batch_size = title, total, batch_size
        self._first, self._started = start, time.monotonic()
        self._last, self._last_time = start, self._started
        self._speaks = jax.process_index() == 0
        self._waited, self._flop = 0.0, 0.0
        peak = peak_flop_per_second(jax.devices()[0].device_kind, dtype)
        self._peak = peak and peak * jax.device_count()
        self._interactive = self._speaks and sys.stderr.isatty()
        self._bar = tqdm.tqdm(
            total=total,
            initial=start,
            desc=title,
            disable=not self._interactive,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}",
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Says how long the inside took; speeds begin behind it."""
        started = time.monotonic()
        yield
        now = time.monotonic()
        self._say(f"{self._title}: compiled in {now - started:.1f} s")
        self._started = self._last_time = now
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

    def update(self, step: int, metrics: dict[str, float]) -> dict[str, float | None]:
        """Moves the bar to ``step``, which is done; returns how fast it went since the last one."""
        now = time.monotonic()
        seconds = (now - self._last_time) / (step - self._last)
        images = self._batch_size / seconds
        left = (self._total - step) * (now - self._started) / (step - self._first)
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
        text = f"loss {metrics['loss']:.4g}, {images:.1f} images/s, {clock(left)} left"
        if self._interactive:
            self._bar.n = step
            self._bar.set_postfix_str(text)
        else:
            self._say(f"{self._title}: step {step}/{self._total}, {text}")
        return speed

    def _say(self, text: str) -> None:
        if self._speaks:
            with tqdm.tqdm.external_write_mode(file=sys.stderr):
                console.note(text)


class PhotoProgress:
    """Shows how many of ``total`` photos are done, photos/s and the time left."""

    _EVERY = 10.0  # seconds between plain lines

    def __init__(self, total: int):
        self._total, self._done = total, 0
        self._started = self._shown = time.monotonic()
        self._bar = tqdm.tqdm(total=total, desc="photos", unit=" photos", disable=None)

    def __enter__(self) -> "PhotoProgress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def update(self, count: int) -> None:
        """``count`` more are done."""
        self._done += count
        self._bar.update(count)
        now = time.monotonic()
        if not self._bar.disable or not count or now - self._shown < self._EVERY:
            return
        self._shown = now
        speed = self._done / (now - self._started)
        left = clock((self._total - self._done) / speed)
        console.note(f"{self._done}/{self._total} photos, {speed:.1f} photos/s, {left} left")


def clock(seconds: float) -> str:
    """mm:ss, or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
