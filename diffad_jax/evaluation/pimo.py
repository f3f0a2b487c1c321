"""AUPIMO: the area under the per-image overlap curve at very few false positives.

Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low
Tolerance" (2024): of each anomalous image, the share of its defect that is found, against the mean
false-positive rate on the normal images alone, averaged over the rate's logarithm.
"""

import math

import numpy as np

from diffad_jax.evaluation.ranking import NO_MASKS, Figure, chance, undefined

BOUNDS = (1e-5, 1e-4)  # of the false-positive rate, as published


def aupimo(
    masks: np.ndarray | None, maps: np.ndarray, bounds: tuple[float, float] = BOUNDS
) -> tuple[Figure, list[float | None]]:
    """The mean AUPIMO of the anomalous images, and that of each image, in [0, 1].

    At a false-positive rate f an image is searched at the lowest threshold whose rate is at most
    f, so the curve is a step function, integrated exactly. (The authors' code joins the points of
    a grid of thresholds by straight lines.) With that, an image's area is the mean over its
    anomalous pixels of the share of [log low, log high] that lies above the pixel's own rate, at
    which it begins to be found.

    Args:
      masks: [n, h, w] bool; an image without a true pixel is normal. None where defect photos
        lack them.
      maps: [n, h, w], larger is more anomalous.
      bounds: 0 < low < high <= 1 of the false-positive rate.

    Returns:
      The mean, undefined where a score is not finite, or images of either kind are missing; and n
      values, None for normal images and where the mean is undefined.

    Raises:
      ValueError: the shapes differ.
    """
    if masks is None:
        return Figure(None, NO_MASKS), [None] * len(maps)
    anomalous = masks.any(axis=(1, 2))
    reason = undefined("pixels", masks, maps)
    if not reason and anomalous.all():
        reason = "there are no normal photos to take false positives from"
    if reason:
        return Figure(None, reason), [None] * len(maps)
    low, high = bounds
    normal = np.sort(maps[~anomalous], axis=None)
    below = np.searchsorted(normal, maps[masks], side="left")
    rate = (normal.size - below) / normal.size
    found = np.log(high / np.clip(rate, low, high)) / math.log(high / low)
    image, n = np.nonzero(masks)[0], len(maps)
    areas = np.bincount(image, found, n)[anomalous] / np.bincount(image, minlength=n)[anomalous]
    values: list[float | None] = [None] * n
    for i, area in zip(np.flatnonzero(anomalous), areas, strict=True):
        values[i] = float(area)
    note = chance("pixels", maps)
    if normal.size * low < 1:
        note = f"{normal.size} normal pixels cannot show a false-positive rate of {low:g}"
    return Figure(float(np.mean(areas)), note), values
