"""What counted work shows: on a terminal, elsewhere, and of the time that is left."""

import io

import numpy as np
import pytest

from diffad_jax.runtime import progress

RNG = np.random.default_rng(0)


class Clock:
    """Stands until it is told to go on."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(progress.time, "monotonic", found.monotonic)
    return found


def counted(clock, total, batch, first, a_batch):
    """What is printed while ``total`` pass by, the first batch after ``first`` seconds."""
    with progress.CountProgress(total, title="bottle") as shown:
        for start in range(0, total, batch):
            clock.now += a_batch if start else first
            shown.update(min(batch, total - start))


def test_plain_lines_come_at_a_modest_rate_and_leave_the_compilation_out(clock, capsys):
    first, a_batch = RNG.uniform(20.0, 90.0), RNG.uniform(1.0, 4.0)
    counted(clock, 400, 4, first, a_batch)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "bottle: 4/400 photos"  # one batch tells no speed
    wanted = 99 * a_batch / progress.EVERY
    assert wanted / 2 < len(lines) <= wanted + 2
    assert all(f"{4 / a_batch:.1f} photos/s" in line for line in lines[1:])


def test_a_terminal_says_compiling_until_the_first_are_done(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.CountProgress(40) as shown:
        assert terminal.getvalue().rstrip().endswith(progress.COMPILING)
        clock.now += 60.0
        shown.update(8)
        clock.now += 2.0
        shown.update(8)
        shown._bar.refresh()
        assert "16/40, 4.0 photos/s, 00:06 left" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()  # the bar goes


def test_few_photos_in_no_time_print_nothing(clock, capsys):
    counted(clock, 8, 4, 0.0, 0.0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(20, "less than a minute"), (70, "about 1 minute"), (2400, "about 40 minutes"),
     (9000, "about 2.5 hours")],
)  # fmt: skip
def test_estimates_are_words(seconds, words):
    assert progress.about(seconds) == words
