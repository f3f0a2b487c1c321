"""Figures as a table for the terminal and as ``metrics.json``."""

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import diffad_jax
from diffad_jax.evaluation.ranking import Figure, mean_figures

_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scikit-learn", "pillow")
Figures = Mapping[str, Figure]


def table(categories: Mapping[str, Figures]) -> str:
    """Categories down, figures (× 100) across, their mean last, reasons for gaps below."""
    names = list(next(iter(categories.values())))
    titles = (n.replace("_", " ").replace("auroc", "AUROC").replace("ap", "AP") for n in names)
    rows = [("category", *titles)]
    lines = dict(categories)
    if len(categories) > 1:
        lines["mean"] = mean_figures(categories.values())
    rows += [(c, *(_shown(f[n]) for n in names)) for c, f in lines.items()]
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    text = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    text.insert(1, "-" * len(text[0]))
    reasons = {
        f"{c}: {n}: {f.reason}" for c, fs in lines.items() for n, f in fs.items() if f.reason
    }
    return "\n".join([*text, *sorted(reasons)])


def write_metrics(
    path: Path,
    categories: Mapping[str, Figures],
    extras: Mapping[str, Mapping[str, Any]],
    config: dict[str, Any],
    seconds: float,
) -> None:
    """Writes ``metrics.json`` whole or not at all.

    Args:
      path: the file.
      categories: the figures of each.
      extras: more to put beside each category's figures: counts, thresholds.
      config: as JSON.
      seconds: that the evaluation took.
    """
    content = {
        "categories": {c: _plain(f) | dict(extras[c]) for c, f in categories.items()},
        "mean": _plain(mean_figures(categories.values())),
        "config": config,
        "versions": versions(),
        "seconds": round(seconds, 2),
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    temporary.replace(path)


def versions() -> dict[str, str]:
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"diffad_jax": diffad_jax.__version__, "python": platform.python_version(), **packages}


def _plain(figures: Figures) -> dict[str, Any]:
    reasons = {n: f.reason for n, f in figures.items() if f.reason}
    return {n: f.value for n, f in figures.items()} | ({"reasons": reasons} if reasons else {})


def _shown(figure: Figure) -> str:
    return "–" if figure.value is None else f"{100 * figure.value:.2f}"
