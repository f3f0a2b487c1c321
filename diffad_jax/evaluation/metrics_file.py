"""``metrics.json``: all figures for programs to read."""

import json
import logging
import math
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import diffad_jax
from diffad_jax.evaluation.bootstrap import Interval
from diffad_jax.evaluation.confusion import Confusion
from diffad_jax.evaluation.ranking import Figure, mean_figures

logger = logging.getLogger(__name__)
_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scikit-learn", "pillow")
Figures = Mapping[str, Figure]


def write_metrics(
    path: Path,
    categories: Mapping[str, Figures],
    extras: Mapping[str, Mapping[str, Any]],
    config: dict[str, Any],
    seconds: float,
) -> None:
    """Writes the file whole or not at all, and without NaN, which is not JSON.

    Args:
      path: the file; its folder is made.
      categories: the figures of each, in [0, 1]; an undefined one is null, with its reason under
        ``reasons``.
      extras: more to put beside each category's figures, outside the mean: counts, intervals,
        thresholds as ``Figure``. NaN and infinities become null with a reason.
      config: as JSON.
      seconds: that the evaluation took.
    """
    content = {
        "categories": {c: plain(f, extras[c]) for c, f in categories.items()},
        "mean": plain(mean_figures(categories.values())),
        "config": config,
        "versions": versions(),
        "seconds": round(seconds, 2),
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_whole(path, text)


def write_whole(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def read(path: Path) -> dict:
    """The content of a small JSON file that can be made again; {} where it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        logger.warning("%s is damaged and made anew", path)
        return {}


def versions() -> dict[str, str]:
    """Of this package, Python, and the packages that figures depend on."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"diffad_jax": diffad_jax.__version__, "python": platform.python_version(), **packages}


def plain(figures: Figures, extras: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Figures as JSON: values, null where undefined, and ``reasons`` where there are any."""
    reasons = {n: f.reason for n, f in figures.items() if f.reason}
    values: dict[str, Any] = {n: f.value for n, f in figures.items()} | dict(extras or {})
    for name, value in (extras or {}).items():
        if isinstance(value, float) and not math.isfinite(value):
            value = Figure(None, f"was {value}")
        if isinstance(value, Figure):
            values[name] = value.value
            reasons |= {name: value.reason} if value.reason else {}
    return values | ({"reasons": reasons} if reasons else {})


def plain_intervals(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    """95 % intervals as JSON: {name: {"low": …, "high": …}}, both null with a reason."""
    return {name: plain({"low": low, "high": high}) for name, (low, high) in intervals.items()}


def plain_confusion(confusion: Confusion) -> dict[str, Any]:
    """Counts, precision and recall as JSON."""
    counts = {
        name: getattr(confusion, name)
        for name in ("true_positives", "false_positives", "true_negatives", "false_negatives")
    }
    return plain({"precision": confusion.precision, "recall": confusion.recall}, counts)
