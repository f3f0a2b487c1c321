"""AUPIMO: the area under the per-image overlap curve at very few false positives.

Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low
Tolerance" (2024). For each anomalous image the curve gives the share of its defect that is found,
against the mean false-positive rate on normal images alone. It is averaged over the rate's
logarithm.
"""

import math

import numpy as np

from diffad_jax.evaluation.pixels import Counts, Maps, Masks
from diffad_jax.evaluation.ranking import Labels, Metric

BOUNDS = (1e-5, 1e-4)  # of the false-positive rate, as published


def aupimo(
    counts: Counts | str,
    labels: Labels,
    masks: Masks | None,
    maps: Maps,
    bounds: tuple[float, float] = BOUNDS,
) -> tuple[Metric, list[float | None]]:
    """The mean AUPIMO of the anomalous images, and that of each image, in [0, 1].

    At a false-positive rate f the lowest threshold whose rate is at most f counts. So the curve is
    a step function, and is integrated exactly. (The authors' code joins the points of a grid of
    thresholds by straight lines.) A pixel's own rate is the one from which on it is found. For
    each anomalous pixel the share of [log low, log high] above its own rate is taken. Their mean is
    the image's area.

    Args:
      counts: of these masks and maps, or why there are none.
      labels: an anomalous image whose mask is empty counts neither among the normal images nor
        among the anomalous ones.
      masks: None where there are no counts.
      maps: larger is more anomalous.
      bounds: 0 < low < high <= 1 of the false-positive rate.

    Returns:
      The mean, which is undefined where no image is normal, and n values. A value is None for
      normal images, for empty masks, and where the mean is undefined. Where the counts are not
      exact, both are lower bounds.
    """
    values: list[float | None] = [None] * len(maps)
    if masks is None or isinstance(counts, str):
        return Metric(None, str(counts)), values
    seen = counts.seen
    if labels.all():
        return Metric(None, "there are no normal photos to take false positives from"), values
    c, _ = counts.curves(~labels)
    at_least = (c.above + c.tied)[::-1]  # rising levels, as in ``counts``
    least = _found(at_least / c.num_negatives, bounds)
    # Between two levels a pixel's own rate is not below that of the next level.
    most = least if seen.exact else _found(np.append(at_least[1:], 0) / c.num_negatives, bounds)
    areas = []
    for i in np.flatnonzero(labels & (seen.areas > 0)):
        level = np.searchsorted(seen.levels, maps[i][masks[i]], side="right") - 1
        areas.append((np.mean(least[level]), np.mean(most[level])))
        values[i] = float(areas[-1][0])
    if not areas:
        return Metric(None, "the masks of all anomalous photos are empty"), values
    low, high = np.mean(areas, axis=0)
    note = seen.chance() if seen.exact else seen.bounds(low, high)
    if c.num_negatives * bounds[0] < 1:
        few = f"{c.num_negatives} normal pixels cannot show a false-positive rate of {bounds[0]:g}"
        note = few if seen.exact else f"{note}; {few}"
    return Metric(float(low), note), values


def _found(rate: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """The share of the logarithmic range that lies above each rate."""
    low, high = bounds
    return np.log(high / np.clip(rate, low, high)) / math.log(high / low)
