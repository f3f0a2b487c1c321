"""Points of the ROC, precision-recall and PRO curves, few enough to draw."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from diffad_jax.evaluation import curve

NUM_DRAWN = 300


class Points(NamedTuple):
    """A line from point to point; both axes in [0, 1]."""

    x: Float64[np.ndarray, " k"]
    y: Float64[np.ndarray, " k"]


def roc(c: curve.Curve) -> Points:
    """False-positive rate and recall. The area under the line is ``curve.auroc``; with regions of
    equal weight (``pro.region_weights``) it is the PRO curve, up to any rate."""
    found = _found(c)
    rates = np.stack([c.above, c.above + c.tied], axis=-1) / c.num_negatives
    shares = np.stack([np.concatenate([[0.0], found[:-1]]), found], axis=-1)
    return Points(np.append(rates.ravel(), 1.0), np.append(shares.ravel(), 1.0))


def precision_recall(c: curve.Curve) -> Points:
    """Recall and precision, as stairs. The area under them is ``curve.average_precision``."""
    found = np.cumsum(c.positives, dtype=np.float64)
    precision = np.repeat(found / (found + c.above + c.tied), 2)
    recall = _found(c)
    stairs = np.stack([np.concatenate([[0.0], recall[:-1]]), recall], axis=-1)
    # Thresholds below every positive find no more and lose precision, down to the positives' share.
    least = found[-1] / (found[-1] + c.num_negatives)
    return Points(np.append(stairs.ravel(), 1.0), np.append(precision, least))


def thinned(points: Points, count: int = NUM_DRAWN) -> Points:
    """At most ``count`` of the points, ends included, evenly spaced along the line.

    A point that is left out lies within (the line's length) / (count - 1) of a kept one.
    """
    if len(points.x) <= count:
        return points
    steps = np.abs(np.diff(points.x)) + np.abs(np.diff(points.y))
    along = np.concatenate([[0.0], np.cumsum(steps)])
    kept = np.searchsorted(along, np.linspace(0.0, along[-1], count))
    kept = np.unique(np.clip(np.append(kept, len(along) - 1), 0, len(along) - 1))
    return Points(points.x[kept], points.y[kept])


def up_to(points: Points, limit: float) -> Points:
    """The part left of x = limit, with a point there."""
    inside = points.x < limit
    end = np.interp(limit, points.x, points.y)
    return Points(np.append(points.x[inside], limit), np.append(points.y[inside], end))


def _found(c: curve.Curve) -> np.ndarray:
    """[k]: the share of the positives at or above each threshold."""
    found = np.cumsum(c.positives, dtype=np.float64)
    return found / found[-1]
