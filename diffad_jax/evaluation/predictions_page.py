"""``predictions.html``: the results of a prediction by score, with pictures.

The page holds the table alone. Pictures are the files beside it, loaded when they come into view.
"""

import collections
import heapq
import html
import os
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from diffad_jax.evaluation import page

VERDICTS = ("anomalous", "normal", "no verdict", "unreadable")
_LEGEND = (
    "Anomaly maps: blue up to the pixel threshold, warm and outlined above it. "
    f"{page.SMALL_OUTLINES}."
)
_NO_THRESHOLD = (
    "Anomaly maps: blue where the photo is normal, warm where it is not. There is no threshold, so "
    "no photo is called anomalous and nothing is outlined: give --threshold=X, or put in more good "
    "photos and --retrain."
)
_MOST_SHOWN = 50_000  # photos: a page of more is slow to open, and takes memory to write


def verdict(row: Mapping[str, Any]) -> str:
    """The verdict of a row of ``predictions.jsonl``: one of ``VERDICTS``."""
    if row["error"] is not None:
        return "unreadable"
    return {True: "anomalous", False: "normal", None: "no verdict"}[row["is_anomalous"]]


class Summary:
    """The number of photos of each verdict, and their thresholds."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._thresholds: set[float] = set()

    def counting(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Passes rows on and counts them."""
        for row in rows:
            self._counts[verdict(row)] += 1
            if row.get("threshold") is not None:
                self._thresholds.add(row["threshold"])
            yield row

    @property
    def num_photos(self) -> int:
        return self._counts.total()

    @property
    def legend(self) -> str:
        """The meaning of the colours, and of a verdict."""
        return _NO_THRESHOLD if self._counts["no verdict"] and not self._thresholds else _LEGEND

    def __str__(self) -> str:
        """One line."""
        counts = self._counts
        said = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if v != "no verdict" or counts[v])
        if not self._thresholds:
            return said
        word = "threshold" if len(self._thresholds) == 1 else "thresholds"
        return f"{said}; {word} {', '.join(f'{t:.4g}' for t in sorted(self._thresholds))}"


def describe(rows: Iterable[Mapping[str, Any]]) -> str:
    """One line: the number of photos of each verdict, and their thresholds."""
    summary = Summary()
    collections.deque(summary.counting(rows), maxlen=0)
    return str(summary)


def write_page(path: Path, rows: Iterable[Mapping[str, Any]], title: str) -> str:
    """Writes the page whole or not at all; of too many photos only those of the highest scores.

    Args:
      path: the file, in the folder of the pictures.
      rows: of ``predictions.jsonl``.
      title: such as the category.

    Returns:
      The number of photos of each verdict, see ``describe``.
    """
    summary = Summary()
    order = lambda row: (row["score"] is None, -(row["score"] or 0.0), row["name"])  # noqa: E731
    small = ({**row, "regions": None} for row in summary.counting(rows))  # a hundred of each, else
    shown = heapq.nsmallest(_MOST_SHOWN, small, key=order)
    said = str(summary)
    if summary.num_photos > len(shown):
        said += f"; below are the {len(shown)} of the highest scores, the tables hold all"
    content = {"title": title, "summary": said, "photos": [_photo(row) for row in shown]}
    parts = {
        "title": html.escape(f"{title}: predictions"),
        "plain": html.escape(content["summary"]),
        "legend": html.escape(summary.legend),
        "data": page.as_data(content),
    }
    page.write(path, "predictions_template.html", parts)
    return str(summary)


def _photo(row: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a row that the page needs, small because a page has many thousands."""
    shown = {"name": row["name"], "verdict": VERDICTS.index(verdict(row))}
    if row["error"] is not None:
        return shown | {"error": row["error"]}
    shown |= {"score": float(f"{row['score']:.5g}"), "regions": row.get("num_regions", 0)}
    if row.get("threshold") is not None:
        shown["threshold"] = float(f"{row['threshold']:.5g}")
    links = {"thumbnail": row.get("thumbnail"), "picture": row.get("overlay")}
    return shown | {key: _link(name) for key, name in links.items() if name}


def _link(name: str) -> str:
    """The URL of a file below the page's folder, for any characters in its name."""
    return urllib.parse.quote(os.fsencode(name))
