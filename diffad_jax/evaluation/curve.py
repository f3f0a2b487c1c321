"""True and false positives as the threshold falls, and the areas under the curves of both.

Every ranking metric is a function of four numbers at each threshold. They come from one sort
(``exact``) or from counts in bins (``from_bins``); in bins, each metric has certified bounds.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num

Values = Float[np.ndarray, "*resamples"] | float


class Curve(NamedTuple):
    """k thresholds from the highest to the lowest, of several resamples or of none.

    Positives are anomalous photos or pixels, negatives normal ones. "Tied" means of equal score,
    or of the same bin.
    """

    thresholds: Float[np.ndarray, " k"]
    positives: Num[np.ndarray, "*resamples k"]  # number or weight of those at the threshold
    above: Num[np.ndarray, "*resamples k"]  # negatives above the threshold
    tied: Num[np.ndarray, "*resamples k"]  # negatives at the threshold
    num_negatives: Num[np.ndarray, "*resamples"] | int


def exact(
    labels: Bool[np.ndarray, "*shape"],
    scores: Float[np.ndarray, "*shape"],
    weights: Float[np.ndarray, " p"] | None = None,
) -> Curve:
    """The curve over every distinct score of a positive; other thresholds find nothing more.

    Positives and negatives are sorted apart, by value: several times faster than an argsort of all.

    Args:
      labels: with positives and negatives.
      scores: finite.
      weights: of the p positives in their order; None counts each as one.
    """
    negatives = np.sort(scores[~labels])
    levels, index = np.unique(scores[labels], return_inverse=True)
    levels = levels[::-1]
    positives = np.bincount(index, weights)[::-1]
    above = negatives.size - np.searchsorted(negatives, levels, side="right")
    at_least = negatives.size - np.searchsorted(negatives, levels, side="left")
    return Curve(levels, positives, above, at_least - above, negatives.size)


def from_bins(
    thresholds: Float[np.ndarray, " k"],
    positives: Num[np.ndarray, "*resamples k"],
    negatives: Num[np.ndarray, "*resamples k"],
) -> Curve:
    """The curve of counts in bins; ``thresholds`` are their lower ends, falling."""
    at_least = np.cumsum(negatives, axis=-1)
    return Curve(thresholds, positives, at_least - negatives, negatives, at_least[..., -1])


def auroc(c: Curve) -> Values:
    """The area under the ROC curve, in [0, 1]; a tied pair counts half (Mann and Whitney)."""
    return 1.0 - _false_pairs(c, c.above + 0.5 * c.tied)


def auroc_bounds(c: Curve) -> tuple[Values, Values]:
    """(lowest, highest) AUROC over all orders inside the bins.

    ``auroc`` is their middle, so its error is at most half the share of tied pairs.
    """
    return 1.0 - _false_pairs(c, c.above + c.tied), 1.0 - _false_pairs(c, c.above)


def average_precision(c: Curve) -> Values:
    """The sum over thresholds of (recall gained) × precision, in [0, 1], as scikit-learn."""
    found = np.cumsum(c.positives, axis=-1, dtype=np.float64)
    precision = found / np.maximum(found + c.above + c.tied, 1.0)
    return np.sum(c.positives * precision, axis=-1) / found[..., -1]


def average_precision_bounds(c: Curve) -> tuple[Values, Values]:
    """(lowest, highest) average precision over all orders inside the bins, ties included.

    With T positives above a bin and F negatives above or in it, the i-th of its p positives has a
    precision of at least (T + i) / (T + i + F). That grows with i, so the sum is at least its first
    term plus the integral from 1 to p. The highest value finds all p before any negative of the
    bin.
    """
    found = np.cumsum(c.positives, axis=-1, dtype=np.float64)
    first = found - c.positives + 1.0
    false = c.above + c.tied
    more = np.maximum(c.positives - 1.0, 0.0)
    least = first / (first + false) + more - false * np.log1p(more / (first + false))
    most = c.positives * found / np.maximum(found + c.above, 1.0)
    least = np.where(c.positives > 0, least, 0.0)
    return np.sum(least, axis=-1) / found[..., -1], np.sum(most, axis=-1) / found[..., -1]


def f1(c: Curve) -> Float[np.ndarray, "*resamples k"]:
    """F1 in [0, 1] where everything at or above a threshold is called anomalous."""
    found = np.cumsum(c.positives, axis=-1, dtype=np.float64)
    return 2.0 * found / (found + c.above + c.tied + found[..., -1:])


def f1_max_bounds(c: Curve) -> tuple[Values, Values]:
    """(lowest, highest) of the largest F1, whatever the order inside the bins.

    The lowest is reached at the lower end of a bin. The highest takes all positives of a bin and
    none of its negatives.
    """
    without_tied = c._replace(tied=np.zeros_like(c.tied))
    return np.max(f1(c), axis=-1), np.max(f1(without_tied), axis=-1)


def partial_area(c: Curve, limit: float) -> Values:
    """The area left of a false-positive rate, over that of a perfect detector: in [0, 1].

    Straight lines join the curve's points, also at ties and at ``limit``. Positives may carry
    weights. Each positive counts the distance from its own rate to the limit.

    Args:
      limit: of the false-positive rate, in (0, 1]; 1 gives ``auroc``.
    """
    start, end = _left_of(c, limit)
    # Mean of (limit - rate)+ over the rates of a tie; the limit may cut off a part of them.
    ramp = np.maximum(c.tied / np.asarray(c.num_negatives)[..., None], np.finfo(np.float64).tiny)
    mean = np.where(end > 0, 0.5 * (start + end), start**2 / (2.0 * ramp))
    return _weighted_mean(c, mean) / limit


def partial_area_bounds(c: Curve, limit: float) -> tuple[Values, Values]:
    """(lowest, highest) of ``partial_area`` over all orders inside the bins."""
    start, end = _left_of(c, limit)
    return _weighted_mean(c, end) / limit, _weighted_mean(c, start) / limit


def _left_of(c: Curve, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """[..., k]: the curve's distance to the limit before and after each threshold's ties."""
    total = np.asarray(c.num_negatives)[..., None]
    return np.maximum(limit - c.above / total, 0), np.maximum(limit - (c.above + c.tied) / total, 0)


def _false_pairs(c: Curve, negatives: np.ndarray) -> np.ndarray:
    """[...]: the share of (positive, negative) pairs, ``negatives`` [..., k] for each positive."""
    return _weighted_mean(c, negatives) / c.num_negatives


def _weighted_mean(c: Curve, values: np.ndarray) -> np.ndarray:
    """[...]: the mean of ``values`` [..., k] over the positives."""
    total = np.sum(c.positives, axis=-1, dtype=np.float64)
    return np.sum(c.positives * values, axis=-1, dtype=np.float64) / total
