"""F1-max: the largest F1 that any threshold reaches, and that threshold.

The threshold is chosen by test labels: a metric to compare detectors by, never one to work with.
"""

import numpy as np

from diffad_jax.evaluation import curve
from diffad_jax.evaluation.ranking import Labels, Metric, Scores, chance, undefined


def image_f1_max(labels: Labels, scores: Scores) -> tuple[Metric, float | None]:
    """F1-max in [0, 1] over photos, and the highest threshold that reaches it.

    A photo at or above the threshold counts as anomalous. F1-max is undefined where
    ``ranking.image_metrics`` are; then the threshold is None.
    """
    if reason := undefined("test photos", labels, scores):
        return Metric(None, reason), None
    c = curve.exact(labels, scores)
    f1 = curve.f1(c)
    best = int(np.argmax(f1))
    return Metric(float(f1[best]), chance("test photos", scores)), float(c.thresholds[best])
