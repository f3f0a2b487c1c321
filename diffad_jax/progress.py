"""How work shows itself: a bar on a terminal, plain lines elsewhere; training logs it as well."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import tqdm


class Progress:
    """Shows steps, loss, images/s and time left of one stage, and logs its metrics.

    Speed and time left leave out the compilation. Only process 0 shows and logs anything.
    """

    def __init__(self, title: str, start: int, total: int, batch_size: int, log_file: Path):
        self._title, self._total, self._batch_size = title, total, batch_size
        self._first, self._started = start, time.monotonic()
        self._speaks = jax.process_index() == 0
        self._log = log_file.open("a", encoding="utf-8") if self._speaks else None
        self._waited, self._flops = 0.0, 0.0
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
        if self._log:
            self._log.close()

    def compile(self, step_fn: jax.stages.Wrapped, *args: object) -> Callable:
        """``step_fn`` compiled for these arguments; says how long that took."""
        started = time.monotonic()
        compiled = step_fn.lower(*args).compile()
        self._flops = (compiled.cost_analysis() or {}).get("flops", 0.0) * jax.device_count()
        now = time.monotonic()
        self._say(f"{self._title}: compiled in {now - started:.1f} s")
        self._started, self._waited = now, 0.0
        return compiled

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Counts the time inside as time without work."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    def update(self, step: int, metrics: dict[str, float]) -> None:
        """Logs the metrics of ``step`` and moves the bar there."""
        if not self._speaks:
            return
        elapsed = time.monotonic() - self._started
        speed = (step - self._first) / elapsed if step > self._first else 0.0
        images = speed * self._batch_size
        left = (self._total - step) / speed if speed else float("nan")
        memory = jax.local_devices()[0].memory_stats() or {}
        entry = {"stage": self._title, "step": step, **metrics, "images_per_second": images,
                 "seconds_per_step": 1 / speed if speed else None,
                 "share_waiting_for_data": self._waited / elapsed,
                 # As the compiler counts, which takes a loop's body once.
                 "flop_per_second": speed * self._flops,
                 "device_memory_bytes": memory.get("peak_bytes_in_use")}  # fmt: skip
        self._log.write(json.dumps(entry) + "\n")
        self._log.flush()
        text = f"loss {metrics['loss']:.4g}, {images:.1f} images/s, {clock(left)} left"
        if self._interactive:
            self._bar.n = step
            self._bar.set_postfix_str(text)
        else:
            self._say(f"{self._title}: step {step}/{self._total}, {text}")

    def _say(self, text: str) -> None:
        if self._speaks:
            tqdm.tqdm.write(text, file=sys.stderr)


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
        print(
            f"{self._done}/{self._total} photos, {speed:.1f} photos/s, {left} left",
            file=sys.stderr,
        )


def clock(seconds: float) -> str:
    """mm:ss, or h:mm:ss; ``?`` where unknown."""
    if seconds != seconds:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
