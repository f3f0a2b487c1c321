"""Small files that are there whole or not at all."""

import json
import logging
from pathlib import Path

logger = logging.getLogger(__name__)


def write_whole(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> dict:
    """The content of a small JSON file that can be made again; {} where it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        logger.warning("%s is damaged and made anew", path)
        return {}
