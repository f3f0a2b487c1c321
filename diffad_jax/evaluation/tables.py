"""Figures as a table for the terminal and as ``metrics.json``."""

import json
import math
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
    """Categories down, figures (× 100) across, their mean last, reasons for gaps below.

    Args:
      categories: the figures of each, under the same names in the same order; at least one.
    """
    names = list(next(iter(categories.values())))
    lines = dict(categories)
    if len(categories) > 1:
        lines["mean"] = mean_figures(categories.values())
    rows = [("category", *map(_title, names))]
    rows += [(c, *(_shown(f[n]) for n in names)) for c, f in lines.items()]
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    text = [
        "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])
        for name, *cells in rows
    ]
    text.insert(1, "-" * len(text[0]))
    return "\n".join([*text, *(note for c, f in lines.items() for note in _notes(c, f))])


def write_metrics(
    path: Path,
    categories: Mapping[str, Figures],
    extras: Mapping[str, Mapping[str, Any]],
    config: dict[str, Any],
    seconds: float,
) -> None:
    """Writes ``metrics.json`` whole or not at all, and without NaN, which is not JSON.

    Args:
      path: the file; its folder is made.
      categories: the figures of each, in [0, 1]; an undefined one is null, with its reason under
        ``reasons``.
      extras: more to put beside each category's figures: counts, thresholds. NaN and infinities
        become null with a reason.
      config: as JSON.
      seconds: that the evaluation took.
    """
    content = {
        "categories": {c: _plain(f, extras[c]) for c, f in categories.items()},
        "mean": _plain(mean_figures(categories.values()), {}),
        "config": config,
        "versions": versions(),
        "seconds": round(seconds, 2),
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def versions() -> dict[str, str]:
    """Of this package, Python, and the packages that figures depend on."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"diffad_jax": diffad_jax.__version__, "python": platform.python_version(), **packages}


def _plain(figures: Figures, extras: Mapping[str, Any]) -> dict[str, Any]:
    reasons = {n: f.reason for n, f in figures.items() if f.reason}
    values = {n: f.value for n, f in figures.items()} | dict(extras)
    for name, value in extras.items():
        if isinstance(value, float) and not math.isfinite(value):
            values[name], reasons[name] = None, f"was {value}"
    return values | ({"reasons": reasons} if reasons else {})


def _notes(category: str, figures: Figures) -> list[str]:
    """One line a reason, however many figures share it."""
    sharing: dict[str, list[str]] = {}
    for name, figure in figures.items():
        if figure.reason:
            sharing.setdefault(figure.reason, []).append(name)
    return [f"{category}: {', '.join(names)}: {reason}" for reason, names in sharing.items()]


def _title(name: str) -> str:
    return " ".join(w.upper() if w in ("auroc", "ap") else w for w in name.split("_"))


def _shown(figure: Figure) -> str:
    return "–" if figure.value is None else f"{100 * figure.value:.2f}"
