"""Prints text as far as the stream can show it, and while somebody reads it."""

import codecs
import os
import sys
import unicodedata
from typing import TextIO

_PLAIN = str.maketrans({"–": "-", "—": "-", "−": "-", "×": "x", "…": "...", "²": "2", "’": "'"})

# A file's name may hold what moves a terminal's cursor or changes its colours.
_CONTROLS = {i: f"\\x{i:02x}" for i in (*range(32), *range(127, 160)) if chr(i) not in "\n\t"}


def say(text: str = "") -> None:
    """Prints a result on standard output. Work goes on even if it cannot be shown."""
    _print(text, sys.stdout)


def note(text: str) -> None:
    """Prints a note for the user on standard error."""
    _print(text, sys.stderr)


def shown(text: str, encoding: str) -> str:
    """The text in characters of ``encoding``; others as their nearest in ASCII, or escaped.

    Names of files may hold bytes that are no text at all, and control characters: these are
    escaped, too.
    """
    return text.translate(_CONTROLS).encode(encoding, _NAME).decode(encoding)


def _print(text: str, stream: TextIO | None) -> None:
    if stream is None:  # there is no console
        return
    try:
        print(shown(text, getattr(stream, "encoding", None) or "utf-8"), file=stream, flush=True)
    except BrokenPipeError:  # such as | head, which reads no more
        _let_go(stream)


def _let_go(stream: TextIO) -> None:
    """Drops all further output, because Python's own flush at the exit would fail as well."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    except (OSError, ValueError):  # it has no file of its own
        pass
    finally:
        os.close(nowhere)


def _to_ascii(error: UnicodeError) -> tuple[str, int]:
    part = error.object[error.start : error.end].translate(_PLAIN)
    letters = (c for c in unicodedata.normalize("NFKD", part) if not unicodedata.combining(c))
    plain = "".join(letters).encode("ascii", "backslashreplace").decode("ascii")
    return plain, error.end


_NAME = "diffad_jax.to_ascii"
codecs.register_error(_NAME, _to_ascii)
