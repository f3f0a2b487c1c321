"""``predictions.html``: what prediction found in each photo, by score, with its pictures.

The page holds the table alone; pictures are the files beside it, loaded as they come into view.
"""

import html
import os
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from diffad_jax.evaluation import page

VERDICTS = ("anomalous", "normal", "no verdict", "unreadable")


def verdict(row: Mapping[str, Any]) -> str:
    """Of a row of ``predictions.jsonl``: one of ``VERDICTS``."""
    if row["error"] is not None:
        return "unreadable"
    return {True: "anomalous", False: "normal", None: "no verdict"}[row["is_anomalous"]]


def describe(rows: Iterable[Mapping[str, Any]]) -> str:
    """How many photos have which verdict, and their threshold: one line."""
    rows = list(rows)
    counts = Counter(map(verdict, rows))
    thresholds = sorted({row["threshold"] for row in rows if row.get("threshold") is not None})
    said = [f"{counts[v]} {v}" for v in VERDICTS if v != "no verdict" or counts[v]]
    if not thresholds:
        return ", ".join(said)
    word = "threshold" if len(thresholds) == 1 else "thresholds"
    return f"{', '.join(said)}; {word} {', '.join(f'{t:.4g}' for t in thresholds)}"


def write_page(path: Path, rows: Iterable[Mapping[str, Any]], title: str) -> None:
    """Writes the page whole or not at all.

    Args:
      path: the file, in the folder of the pictures.
      rows: of ``predictions.jsonl``.
      title: such as the category.
    """
    rows = sorted(rows, key=lambda row: (row["score"] is None, -(row["score"] or 0.0), row["name"]))
    content = {"title": title, "summary": describe(rows), "photos": [_photo(row) for row in rows]}
    parts = {
        "title": html.escape(f"{title}: predictions"),
        "plain": html.escape(content["summary"]),
        "data": page.as_data(content),
    }
    page.write(path, "predictions_template.html", parts)


def _photo(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs of a row; ten thousand of them are to be read at once."""
    shown = {"name": row["name"], "verdict": VERDICTS.index(verdict(row))}
    if row["error"] is not None:
        return shown | {"error": row["error"]}
    shown |= {"score": float(f"{row['score']:.5g}"), "regions": row.get("num_regions", 0)}
    if row.get("threshold") is not None:
        shown["threshold"] = float(f"{row['threshold']:.5g}")
    links = {"thumbnail": row.get("thumbnail"), "picture": row.get("overlay")}
    return shown | {key: _link(name) for key, name in links.items() if name}


def _link(name: str) -> str:
    """A file below the page's folder, whatever its name holds."""
    return urllib.parse.quote(os.fsencode(name))
