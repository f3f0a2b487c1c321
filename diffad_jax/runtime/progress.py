"""The progress of counted work: a bar on a terminal, plain lines now and then elsewhere."""

import sys
import time

import tqdm

from diffad_jax.runtime import console

EVERY = 10.0  # seconds between plain lines
COMPILING = "compiling (once)"
BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"


class CountProgress:
    """Shows how many of ``total`` are done, how many a second, and the time left.

    ``before`` is shown until the first one is done; speeds leave that time out.
    """

    def __init__(self, total: int, what: str = "photos", title: str = "", before: str = COMPILING):
        self._total, self._what, self._done, self._first = total, what, 0, 0
        self._title, self._before = f"{title}: " if title else "", before
        self._started = self._shown = time.monotonic()
        self._bar = tqdm.tqdm(
            total=total,
            desc=f"{self._title}{what}",
            bar_format=BAR,
            leave=False,
            disable=sys.stderr is None or not sys.stderr.isatty(),
            postfix=before,
        )

    def __enter__(self) -> "CountProgress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def update(self, count: int) -> None:
        """``count`` more are done."""
        now = time.monotonic()
        self._done += count
        if self._first == 0:
            self._first, self._started = self._done, now
        self._bar.set_postfix_str(self._speed(now), refresh=False)
        self._bar.update(count)
        if self._done >= self._total:
            self._bar.close()
        if self._bar.disable and count and now - self._shown >= EVERY:
            self._shown = now
            said = f"{self._title}{self._done}/{self._total} {self._what}"
            console.note(", ".join(filter(None, [said, self._speed(now)])))

    def _speed(self, now: float) -> str:
        """The speed and the time left; empty while they are not known."""
        if self._done == 0:
            return self._before
        if self._done == self._first or now == self._started:
            return ""
        speed = (self._done - self._first) / (now - self._started)
        left = (self._total - self._done) / speed
        return f"{speed:.1f} {self._what}/s, {clock(left)} left"


def clock(seconds: float) -> str:
    """mm:ss, or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def about(seconds: float) -> str:
    """An estimate for people: "about 40 minutes"."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {seconds / 3600:.1f} hours"
