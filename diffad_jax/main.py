"""The command: ``python -m diffad_jax.main --config=configs/mvtec.py:bottle --workdir=runs/a``."""

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType

from diffad_jax.runtime import console


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the mode that the command line asks for."""
    listens = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, _end) if listens else None
    from diffad_jax.commands import program  # JAX comes with it, which takes seconds

    if listens:
        signal.signal(signal.SIGINT, before)
    program.run(argv)


def _end(number: int, frame: FrameType | None) -> None:
    """Ends at once: no work has begun, and an import may catch an exception as its own."""
    console.note("stopped")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
