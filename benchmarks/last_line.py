"""How a benchmark ends."""

import json
from pathlib import Path
from typing import Any


def finish(figures: dict[str, Any], file: str | Path | None = None) -> None:
    """Prints the figures as one line of JSON, and writes them to ``file`` where one is named."""
    line = json.dumps(figures)
    if file:
        Path(file).write_text(line + "\n")
    print(line)
