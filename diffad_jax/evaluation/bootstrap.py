"""95 % percentile intervals of ranking metrics, by resampling photos within each class.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13. Pixels of one photo
depend on each other, so photos are drawn, never pixels. The intervals tell how much a metric
depends on the choice of test photos, not on the seed of training.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64

from diffad_jax.evaluation import curve
from diffad_jax.evaluation.pixels import Counts
from diffad_jax.evaluation.ranking import Labels, Metric, Scores, undefined

Interval = tuple[Metric, Metric]  # low, high
_PERCENTILES = (2.5, 97.5)
_AT_ONCE = 100  # resamples, to bound memory


def image_intervals(
    labels: Labels, scores: Scores, seed: int, num_resamples: int = 1000
) -> dict[str, Interval]:
    """Intervals of ``image_auroc``, ``image_ap`` and ``image_f1_max``; equal seeds, equal results.

    Undefined as ``ranking.image_metrics``.
    """
    if reason := undefined("test photos", labels, scores):
        return _undefined("image", reason)
    levels, level = np.unique(-scores, return_inverse=True)
    order = np.argsort(level)
    anomalous, starts = labels[order], np.searchsorted(level[order], np.arange(levels.size))

    def curves(weights: np.ndarray) -> curve.Curve:
        drawn = weights[:, order]
        positives = np.add.reduceat(drawn * anomalous, starts, axis=1)
        negatives = np.add.reduceat(drawn * ~anomalous, starts, axis=1)
        return curve.from_bins(-levels, positives, negatives)

    return _intervals("image", curves, resamples(labels, seed, num_resamples))


def pixel_intervals(
    counts: Counts | str, seed: int, num_resamples: int = 1000
) -> dict[str, Interval]:
    """Intervals of ``pixel_auroc``, ``pixel_ap`` and ``pixel_f1_max``; equal seeds, equal results.

    Photos with and without a mask pixel are drawn apart. Each photo's pixels are counted once, in
    about 2048 bins with about equal shares of either class. Pixels of one bin count as tied, which
    moves the metrics by far less than the interval's width. An interval is undefined where its
    metric is, and where a resample has no normal pixel.

    Args:
      counts: of all test photos, or why there are none.
    """
    if isinstance(counts, str):
        return _undefined("pixel", counts)
    seen = counts.seen
    weights = resamples(seen.areas > 0, seed, num_resamples)
    if not (weights @ (seen.size - seen.areas)).all():
        return _undefined("pixel", "a resample of the test photos has no normal pixel")
    negatives, positives = counts.histograms

    def curves(weights: np.ndarray) -> curve.Curve:
        # Products of counts: exact in float32 up to 2^24 pixels a bin, and 6e-8 off beyond.
        drawn = weights.astype(np.float32)
        found, false = ((drawn @ c).astype(np.float64) for c in (positives, negatives))
        return curve.from_bins(np.zeros(false.shape[-1]), found, false)

    return _intervals("pixel", curves, weights)


def resamples(
    labels: Bool[np.ndarray, " n"], seed: int, num_resamples: int
) -> Float64[np.ndarray, "{num_resamples} n"]:
    """How often each photo is drawn; each class keeps its size."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((num_resamples, labels.size))
    for of_class in (labels, ~labels):
        if size := int(of_class.sum()):
            weights[:, of_class] = rng.multinomial(size, np.full(size, 1 / size), num_resamples)
    return weights


def _names(kind: str) -> tuple[str, str, str]:
    return f"{kind}_auroc", f"{kind}_ap", f"{kind}_f1_max"


def _undefined(kind: str, reason: str) -> dict[str, Interval]:
    return dict.fromkeys(_names(kind), (Metric(None, reason), Metric(None, reason)))


def _intervals(
    kind: str, curves: Callable[[np.ndarray], curve.Curve], weights: np.ndarray
) -> dict[str, Interval]:
    values = []
    for start in range(0, len(weights), _AT_ONCE):
        c = curves(weights[start : start + _AT_ONCE])
        f1_max = np.max(curve.f1(c), axis=-1)
        values.append((curve.auroc(c), curve.average_precision(c), f1_max))
    lows, highs = np.percentile(np.concatenate(values, axis=1), _PERCENTILES, axis=1)
    return {
        name: (Metric(float(low)), Metric(float(high)))
        for name, low, high in zip(_names(kind), lows, highs, strict=True)
    }
