"""F1-max: the largest F1 that any threshold reaches, and that threshold.

The threshold is chosen by test labels: a figure to compare detectors by, never one to work with.
"""

import numpy as np

from diffad_jax.evaluation import curve
from diffad_jax.evaluation.ranking import NO_MASKS, Figure, chance, undefined


def image_f1_max(labels: np.ndarray, scores: np.ndarray) -> tuple[Figure, float | None]:
    """F1-max in [0, 1] over photos, and the highest threshold that reaches it.

    Anomalous is what scores at or above the threshold. Undefined as ``ranking.image_figures``;
    the threshold is None then.

    Args:
      labels: [n] bool, true where anomalous.
      scores: [n], larger is more anomalous.

    Raises:
      ValueError: the shapes differ.
    """
    return _f1_max("test photos", labels, scores)


def pixel_f1_max(masks: np.ndarray | None, maps: np.ndarray) -> tuple[Figure, float | None]:
    """As ``image_f1_max``, over all pixels of all photos.

    Args:
      masks: [n, h, w] bool, true where anomalous; None where defect photos lack them.
      maps: [n, h, w], larger is more anomalous.
    """
    return (Figure(None, NO_MASKS), None) if masks is None else _f1_max("pixels", masks, maps)


def _f1_max(what: str, labels: np.ndarray, scores: np.ndarray) -> tuple[Figure, float | None]:
    if reason := undefined(what, labels, scores):
        return Figure(None, reason), None
    c = curve.exact(labels, scores)
    f1 = curve.f1(c)
    best = int(np.argmax(f1))
    return Figure(float(f1[best]), chance(what, scores)), float(c.thresholds[best])
