"""Image AUROC and average precision (the paper's metrics), exact, ties included; and what all
metrics have in common."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Bool, Float

from diffad_jax.evaluation import curve

Labels = Bool[np.ndarray, " n"]  # of photos: true where anomalous
Scores = Float[np.ndarray, " n"]  # of photos: larger is more anomalous
NO_MASKS = "defect photos have no ground-truth masks"
NO_RECONSTRUCTION = "the method makes no reconstruction"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A finite metric, or None and the reason why there is none.

    Raises:
      ValueError: ``value`` is NaN or infinite, or None without a reason.
    """

    value: float | None
    reason: str = ""  # beside a value: what to know before trusting it

    def __post_init__(self):
        if self.value is None and not self.reason:
            raise ValueError("a metric that is undefined needs a reason")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a metric must be finite or None, got {self.value}")


def image_metrics(labels: Labels, scores: Scores) -> dict[str, Metric]:
    """``image_auroc`` and ``image_ap``, in [0, 1].

    They are undefined with photos of one class only, and where a score is NaN or infinite. Equal
    scores give the values of chance (AUROC 0.5, AP the share of anomalous photos), with a note.
    """
    names = ("image_auroc", "image_ap")
    if reason := undefined("test photos", labels, scores):
        return dict.fromkeys(names, Metric(None, reason))
    c = curve.exact(labels, scores)
    values, note = (curve.auroc(c), curve.average_precision(c)), chance("test photos", scores)
    return {n: Metric(float(v), note) for n, v in zip(names, values, strict=True)}


def mean_metrics(categories: Iterable[Mapping[str, Metric]]) -> dict[str, Metric]:
    """The mean of each metric over the categories that have it; the reason counts them."""
    categories = list(categories)
    means = {}
    for name in categories[0]:
        values = [v for c in categories if (v := c[name].value) is not None]
        counted = f"mean of {len(values)} of {len(categories)} categories"
        whole = len(values) == len(categories)
        means[name] = Metric(float(np.mean(values)) if values else None, "" if whole else counted)
    return means


def undefined(
    what: str, labels: Bool[np.ndarray, "*shape"], scores: Float[np.ndarray, "*shape"]
) -> str:
    """The reason why these labels and scores have no ranking metrics; empty where they have.

    ``what`` is their name in a sentence, such as "pixels".
    """
    broken = labels.size - int(np.isfinite(scores).sum())
    return undefined_by_counts(what, labels.size, int(labels.sum()), broken)


def undefined_by_counts(what: str, total: int, anomalous: int, broken: int) -> str:
    """Like ``undefined``; ``broken`` is the number of scores that are NaN or infinite."""
    if not total:
        return f"there are no {what}"
    if anomalous in (0, total):
        return f"there are no {'normal' if anomalous else 'anomalous'} {what}"
    return f"{broken} of {total} {what} have a score that is not finite" if broken else ""


def chance(what: str, scores: Float[np.ndarray, "..."]) -> str:
    """A note where all scores are equal, which would pass for a bad detector; else empty."""
    return f"all {what} have the same score" if scores.min() == scores.max() else ""
