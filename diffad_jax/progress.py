"""How training shows itself: a bar on a terminal, plain lines elsewhere, metrics.jsonl always."""

import json
import sys
import time
from pathlib import Path
from types import TracebackType

import tqdm


class Progress:
    """Shows steps, loss, images/s and time left of one stage, and logs its metrics.

    Speed and time left leave out the first step, which compiles.
    """

    def __init__(self, title: str, start: int, total: int, batch_size: int, log_file: Path):
        self._title, self._total, self._batch_size = title, total, batch_size
        self._first, self._started = start, time.monotonic()
        self._log = log_file.open("a", encoding="utf-8")
        self._interactive = sys.stderr.isatty()
        self._bar = tqdm.tqdm(
            total=total,
            initial=start,
            desc=title,
            disable=not self._interactive,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}",
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._log.close()

    def compiled(self, step: int) -> None:
        """Call when ``step``, the first of this run, is done."""
        seconds = time.monotonic() - self._started
        self._say(f"{self._title}: first step, with compilation, took {seconds:.1f} s")
        self._first, self._started = step, time.monotonic()

    def update(self, step: int, metrics: dict[str, float]) -> None:
        """Logs the metrics of ``step`` and moves the bar there."""
        elapsed = time.monotonic() - self._started
        speed = (step - self._first) / elapsed if step > self._first else 0.0
        images = speed * self._batch_size
        left = (self._total - step) / speed if speed else float("nan")
        entry = {"stage": self._title, "step": step, **metrics, "images_per_second": images}
        self._log.write(json.dumps(entry) + "\n")
        self._log.flush()
        text = f"loss {metrics['loss']:.4g}, {images:.1f} images/s, {clock(left)} left"
        if self._interactive:
            self._bar.n = step
            self._bar.set_postfix_str(text)
        else:
            self._say(f"{self._title}: step {step}/{self._total}, {text}")

    def _say(self, text: str) -> None:
        tqdm.tqdm.write(text, file=sys.stderr)


def clock(seconds: float) -> str:
    """mm:ss, or h:mm:ss; ``?`` where unknown."""
    if seconds != seconds:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
