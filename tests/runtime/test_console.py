"""Printing: by any encoding, and to readers that go away."""

import io
import os
import subprocess
import sys

import pytest

from diffad_jax.runtime import console


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("utf-8", "3 × 4 – Prüfung … \\udcff 検"),
        ("ascii", "3 x 4 - Prufung ... \\udcff \\u691c"),
        ("latin-1", "3 × 4 - Prüfung ... \\udcff \\u691c"),
    ],
)
def test_what_a_stream_cannot_show_is_replaced(monkeypatch, encoding, printed):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    console.say("3 × 4 – Prüfung … \udcff 検")
    assert stream.buffer.getvalue().decode(encoding) == f"{printed}\n"


def test_a_name_moves_no_cursor(capsys):
    console.note("a\x1b[2J\r\x9b1mb\tc\nd")
    assert capsys.readouterr().err == "a\\x1b[2J\\x0d\\x9b1mb\tc\nd\n"


def test_a_stream_without_an_encoding_or_none_at_all(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr("sys.stdout", text)
    console.say("ä")
    assert text.getvalue() == "ä\n"
    monkeypatch.setattr("sys.stderr", None)
    console.note("nobody")


def test_a_reader_that_goes_away_ends_nothing(tmp_path):
    code = (
        "from diffad_jax.runtime import console\n"
        "for i in range(20000): console.say(f'line {i}')\n"
        f"open({str(tmp_path / 'done')!r}, 'w').close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout.readline() == b"line 0\n"
        program.stdout.close()
        assert program.stderr.read() == b"" and program.wait() == 0
    assert os.path.exists(tmp_path / "done")
