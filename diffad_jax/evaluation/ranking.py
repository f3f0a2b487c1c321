"""Image and pixel AUROC and average precision (the paper's figures), by scikit-learn."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score


@dataclasses.dataclass(frozen=True)
class Figure:
    """A finite figure, or None and the reason why there is none.

    Raises:
      ValueError: ``value`` is NaN or infinite, or None without a reason.
    """

    value: float | None
    reason: str = ""  # beside a value: what to know before trusting it

    def __post_init__(self):
        if self.value is None and not self.reason:
            raise ValueError("a figure that is undefined needs a reason")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a figure must be finite or None, got {self.value}")


def image_figures(labels: np.ndarray, scores: np.ndarray) -> dict[str, Figure]:
    """``image_auroc`` and ``image_ap``, in [0, 1].

    Undefined with photos of one class only, and where a score is NaN or infinite. Equal scores
    give what chance gives (AUROC 0.5, AP the share of anomalous photos), and say so.

    Args:
      labels: [n] bool, true where anomalous.
      scores: [n], larger is more anomalous.

    Raises:
      ValueError: the shapes differ.
    """
    return _figures("image", "test photos", labels, scores)


def pixel_figures(masks: np.ndarray | None, maps: np.ndarray) -> dict[str, Figure]:
    """``pixel_auroc`` and ``pixel_ap`` over all pixels of all photos, as ``image_figures``.

    Args:
      masks: [n, h, w] bool, true where anomalous; None where defect photos lack them.
      maps: [n, h, w], larger is more anomalous; as published they are not smoothed.

    Raises:
      ValueError: the shapes differ.
    """
    if masks is None:
        reason = "defect photos have no ground-truth masks"
        return {"pixel_auroc": Figure(None, reason), "pixel_ap": Figure(None, reason)}
    return _figures("pixel", "pixels", masks, maps)


def mean_figures(categories: Iterable[Mapping[str, Figure]]) -> dict[str, Figure]:
    """The mean of each figure over the categories that have it; the reason counts them."""
    categories = list(categories)
    means = {}
    for name in categories[0]:
        values = [v for c in categories if (v := c[name].value) is not None]
        counted = f"mean of {len(values)} of {len(categories)} categories"
        whole = len(values) == len(categories)
        means[name] = Figure(float(np.mean(values)) if values else None, "" if whole else counted)
    return means


def _figures(kind: str, what: str, labels: np.ndarray, scores: np.ndarray) -> dict[str, Figure]:
    if labels.shape != scores.shape:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} differ in shape")
    labels, scores = labels.ravel(), scores.ravel()
    names = (f"{kind}_auroc", f"{kind}_ap")
    if reason := _undefined(what, labels, scores):
        return dict.fromkeys(names, Figure(None, reason))
    values = (roc_auc_score(labels, scores), average_precision_score(labels, scores))
    # Defined, and no better than chance: a detector that says nothing must not look like a bad one.
    note = f"all {what} have the same score" if scores.min() == scores.max() else ""
    return {n: Figure(float(v), note) for n, v in zip(names, values, strict=True)}


def _undefined(what: str, labels: np.ndarray, scores: np.ndarray) -> str:
    """Why labels [m] and scores [m] have no ranking figures; empty where they have."""
    if not labels.size:
        return f"there are no {what}"
    if labels.all() or not labels.any():
        return f"there are no {'normal' if labels.all() else 'anomalous'} {what}"
    broken = labels.size - int(np.isfinite(scores).sum())
    return f"{broken} of {labels.size} {what} have a score that is not finite" if broken else ""
