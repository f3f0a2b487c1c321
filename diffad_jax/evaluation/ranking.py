"""Image and pixel AUROC and average precision (the paper's figures), by scikit-learn."""

from collections.abc import Iterable, Mapping

import flax.struct
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score


@flax.struct.dataclass
class Figure:
    """A figure, or the reason why there is none."""

    value: float | None
    reason: str = ""


def image_figures(labels: np.ndarray, scores: np.ndarray) -> dict[str, Figure]:
    """Args: labels [n] bool, true where anomalous; scores [n], larger is more anomalous."""
    return _figures("image", "test photos", labels, scores)


def pixel_figures(masks: np.ndarray | None, maps: np.ndarray) -> dict[str, Figure]:
    """Args: masks [n, h, w] bool, or None where defect photos lack them; maps [n, h, w]."""
    if masks is None:
        reason = "defect photos have no ground-truth masks"
        return {"pixel_auroc": Figure(None, reason), "pixel_ap": Figure(None, reason)}
    return _figures("pixel", "pixels", masks.ravel(), maps.ravel())


def mean_figures(categories: Iterable[Mapping[str, Figure]]) -> dict[str, Figure]:
    """The mean of each figure over the categories that have it; the reason counts them."""
    categories = list(categories)
    means = {}
    for name in categories[0]:
        values = [c[name].value for c in categories if c[name].value is not None]
        counted = f"mean of {len(values)} of {len(categories)} categories"
        whole = len(values) == len(categories)
        means[name] = Figure(float(np.mean(values)) if values else None, "" if whole else counted)
    return means


def _figures(kind: str, what: str, labels: np.ndarray, scores: np.ndarray) -> dict[str, Figure]:
    if labels.shape != scores.shape:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} differ in shape")
    names = (f"{kind}_auroc", f"{kind}_ap")
    if not labels.size:
        return dict.fromkeys(names, Figure(None, f"there are no {what}"))
    if labels.all() or not labels.any():
        missing = "normal" if labels.all() else "anomalous"
        return dict.fromkeys(names, Figure(None, f"there are no {missing} {what}"))
    values = (roc_auc_score(labels, scores), average_precision_score(labels, scores))
    return {n: Figure(float(v)) for n, v in zip(names, values, strict=True)}
