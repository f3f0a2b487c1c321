"""Writes the tables of docs/results.md and docs/earlier_results.md from the recorded runs.

    python -m benchmarks.results_page

A row of ``results/detection*.json`` is one run: its data, command, hardware, seed and metrics in
per cent. A row with ``earlier`` is of a recipe that has changed since, or of a trial.
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {name: ROOT / "docs" / name for name in ("results.md", "earlier_results.md")}
BEGIN, END = "<!-- made by benchmarks.results_page -->\n", "<!-- end -->\n"
_METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")
_TITLES = ("config", "size", "seed", "image AUROC", "image AP", "pixel AUROC", "pixel AP",
           "defects found", "false alarms", "minutes", "hardware, notes")  # fmt: skip


def read_rows() -> list[dict[str, Any]]:
    """Every run, in the order of the files' names and of the rows in them."""
    files = sorted((ROOT / "benchmarks" / "results").glob("detection*.json"))
    return [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]


def tables(rows: list[dict[str, Any]]) -> str:
    """A table for each data set, in Markdown."""
    parts = []
    for data in dict.fromkeys(row["data"] for row in rows):
        lines = [f"### {data}", "", _line(_TITLES), _line(["---"] * len(_TITLES))]
        lines += [_line(_cells(row)) for row in rows if row["data"] == data]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def page(name: str) -> str:
    """The page of ``PAGES`` with its tables made anew."""
    before, rest = PAGES[name].read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    is_earlier = name == "earlier_results.md"
    rows = [row for row in read_rows() if row.get("earlier", False) == is_earlier]
    return f"{before}{BEGIN}\n{tables(rows)}\n{END}{after}"


def _cells(row: dict[str, Any]) -> list[str]:
    notes = [row["hardware"], row["note"]]
    notes += [f"mask rule {row['mask_rule']}"] if row["mask_rule"] != "half" else []
    minutes = row["minutes"]
    return [
        f"`{row['config']}`",
        str(row["image_size"]),
        str(row["seed"]),
        *(f"{row[name]:.1f}" for name in _METRICS),
        _share(row["found"]),
        _share(row["false_alarms"]),
        "not measured" if minutes is None else f"{minutes:g}",
        "; ".join(note for note in notes if note),
    ]


def _share(counts: list[int] | None) -> str:
    return "not counted" if counts is None else f"{counts[0]} of {counts[1]}"


def _line(cells) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    for name, path in PAGES.items():
        path.write_text(page(name), encoding="utf-8")
