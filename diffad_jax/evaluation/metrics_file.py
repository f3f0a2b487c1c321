"""``metrics.json``: all metrics for programs to read."""

import json
import math
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import diffad_jax
from diffad_jax.evaluation.bootstrap import Interval
from diffad_jax.evaluation.confusion import Confusion
from diffad_jax.evaluation.ranking import Metric, mean_metrics
from diffad_jax.runtime import files

_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scikit-learn", "pillow")
Metrics = Mapping[str, Metric]


def write_metrics(
    path: Path,
    categories: Mapping[str, Metrics],
    extras: Mapping[str, Mapping[str, Any]],
    config: dict[str, Any],
    seconds: float,
) -> None:
    """Writes the file whole or not at all, and without NaN, which is not JSON.

    Args:
      path: the file; its folder is made.
      categories: the metrics of each, in [0, 1]; an undefined one is null, with its reason under
        ``reasons``.
      extras: more to put beside each category's metrics, outside the mean: counts, intervals,
        thresholds as ``Metric``. NaN and infinities become null with a reason.
      config: as JSON.
      seconds: that the evaluation took.
    """
    content = {
        "categories": {c: plain(f, extras[c]) for c, f in categories.items()},
        "mean": plain(mean_metrics(categories.values())),
        "config": config,
        "versions": versions(),
        "seconds": round(seconds, 2),
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    files.write_whole(path, text)


def versions() -> dict[str, str]:
    """The versions of this package, of Python, and of the packages that metrics depend on."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"diffad_jax": diffad_jax.__version__, "python": platform.python_version(), **packages}


def plain(metrics: Metrics, extras: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Metrics as JSON: values, null where undefined, and ``reasons`` where there are any."""
    reasons = {n: f.reason for n, f in metrics.items() if f.reason}
    values: dict[str, Any] = {n: f.value for n, f in metrics.items()} | dict(extras or {})
    for name, value in (extras or {}).items():
        if isinstance(value, float) and not math.isfinite(value):
            value = Metric(None, f"was {value}")
        if isinstance(value, Metric):
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
