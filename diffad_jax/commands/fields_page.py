"""Writes docs/fields.md: ``python -m diffad_jax.commands.fields_page > docs/fields.md``."""

from diffad_jax.config import common, fields
from diffad_jax.config.fields import Field
from diffad_jax.methods.registry import METHODS
from diffad_jax.runtime import console

_HEAD = """# Fields of a config

`--config.SECTION.FIELD=VALUE` changes a field. `diffad --help --config=FILE` shows a recipe's.
Every value is checked before the work begins. The last column says what a change costs:
*weights* must be trained again, *length* trains on, *prediction* and *run* leave weights as they
are.

This page is made from the code by `python -m diffad_jax.commands.fields_page`.
"""
_TABLE = "| field | default | values | what | cost |\n|---|---|---|---|---|"


def page() -> str:
    """The whole page, in Markdown."""
    written, parts = set(), [_HEAD]
    titles = [("Every method", common.ALWAYS)]
    titles += [(f"`config.method = {name!r}`", m.sections) for name, m in METHODS.items()]
    for title, sections in titles:
        parts.append(f"\n## {title}\n")
        for section in sections:
            rows = [_row(name, spec) for name, spec in section.dotted() if name not in written]
            written |= {name for name, _ in section.dotted()}
            if rows:
                parts.append(
                    "\n".join([f"{section.comment}\n"] * bool(section.name) + [_TABLE, *rows, ""])
                )
    return "\n".join(parts).rstrip()


def _row(name: str, spec: Field) -> str:
    values = " ".join(map(str, spec.choices))
    if spec.range:
        values = fields.in_words(spec.range).removeprefix("lie in ").removeprefix("be ")
    comment = spec.comment.replace("|", "/")
    return f"| `{name}` | `{spec.default!r}` | {values} | {comment} | {spec.use} |"


if __name__ == "__main__":
    console.say(page())
