"""The inspection page: one document in the style of the report; it contacts its server alone."""

import base64
import hashlib
import re
from pathlib import Path

from diffad_jax.evaluation import page

_FOLDER = Path(__file__).parent
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data: blob:; script-src {script}; "
    "style-src {style}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render() -> tuple[str, str]:
    """The page, and its Content-Security-Policy, which lets its own script and style run."""
    parts = {
        "own_style": _read("page.css"),
        "own_script": _read("page_photos.js") + "\n\n" + _read("page_actions.js"),
    }
    html = page.render(_FOLDER / "page.html", parts)
    return html, _POLICY.format(script=_hash(html, "script"), style=_hash(html, "style"))


def _read(file: str) -> str:
    return (_FOLDER / file).read_text(encoding="utf-8").rstrip("\n")


def _hash(html: str, tag: str) -> str:
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
