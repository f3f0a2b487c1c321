"""Cells of CSV tables that no spreadsheet takes for a formula.

Nothing of this package is imported here: exported models carry a copy of this file.
"""

import re
from collections.abc import Iterable

# Characters that begin a formula, at a cell's start or after a character that may end a cell.
_FORMULA = re.compile("(^|[;\t\r\n])(?=[=+\\-@\t\r＝＋－＠])")


def plain(fields: Iterable[object]) -> list[str]:
    """The fields as text, with a quote before text that a spreadsheet would run as a formula."""
    return [text if _is_number(text) else _FORMULA.sub(r"\1'", text) for text in map(str, fields)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
