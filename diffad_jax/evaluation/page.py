"""Pages that load nothing from elsewhere: a template beside this module, and style and script that
all of them share.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffad_jax.data import pictures
from diffad_jax.runtime.files import write_whole

SMALL_OUTLINES = (
    "A photo is called anomalous by its score, which has a threshold of its own: small outlines on "
    "normal photos occur"
)
_FOLDER = Path(__file__).parent


def write(path: Path, template: str, parts: Mapping[str, str]) -> None:
    """Writes a page whole or not at all; its folder is made. See ``render``."""
    write_whole(path, render(_FOLDER / template, parts))


def render(template: Path, parts: Mapping[str, str]) -> str:
    """A page as text.

    Args:
      template: ``{{NAME}}`` in it is replaced by that part, by the shared ``style`` or by the
        shared ``script``.
      parts: text, inserted as it is.
    """
    style = f"{_read(_FOLDER / 'page.css')}\n.bar {{ background: {_gradient()}; }}"
    shared = {"style": style, "script": _read(_FOLDER / "page.js")}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: (shared | parts)[match[1]], _read(template))


def as_data(content: Any) -> str:
    """JSON for use inside a script, where & escapes nothing and only a "<" could end the script."""
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c")


def _gradient() -> str:
    """The colours of maps, as CSS knows them."""
    stops = [f"rgb{tuple(colour)} {place:.4g}%" for place, colour in pictures.gradient()]
    return f"linear-gradient(90deg, {', '.join(stops)})"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").rstrip("\n")
