"""How a benchmark ends."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, logging

from diffad_jax.errors import UserError


def run(main: Callable[[list[str]], None]) -> None:
    """``app.run``; what a user can put right ends in its message alone."""

    def guarded(argv: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # Orbax reports every file at level INFO
        try:
            main(argv)
        except UserError as error:
            sys.exit(f"error: {error}")

    app.run(guarded)


def finish(metrics: dict[str, Any], file: str | Path | None = None) -> None:
    """Prints the metrics as one line of JSON, and writes them to ``file`` where one is named.

    What is nan or infinite becomes null, since JSON has no word for it.
    """
    line = json.dumps(_finite(metrics), allow_nan=False)
    if file:
        Path(file).write_text(line + "\n")
    print(line)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
