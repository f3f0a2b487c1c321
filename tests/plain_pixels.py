"""Pixel metrics the plain way: of arrays in memory, from one sort of all pixels."""

import numpy as np

from diffad_jax.evaluation import curve
from diffad_jax.evaluation.pro import LIMIT, region_weights
from diffad_jax.evaluation.ranking import NO_MASKS, Metric, chance, undefined

NAMES = ("pixel_auroc", "pixel_ap")


def pixel_metrics(masks: np.ndarray | None, maps: np.ndarray) -> dict[str, Metric]:
    """Those of ``NAMES``, of masks [n, h, w] bool and maps [n, h, w]."""
    if reason := _undefined(masks, maps):
        return dict.fromkeys(NAMES, Metric(None, reason))
    c, note = curve.exact(masks, maps), chance("pixels", maps)
    values = curve.auroc(c), curve.average_precision(c)
    return {n: Metric(float(v), note) for n, v in zip(NAMES, values, strict=True)}


def pixel_f1_max(masks: np.ndarray | None, maps: np.ndarray) -> tuple[Metric, float | None]:
    """And the highest threshold that reaches it."""
    if reason := _undefined(masks, maps):
        return Metric(None, reason), None
    c = curve.exact(masks, maps)
    f1 = curve.f1(c)
    best = int(np.argmax(f1))
    return Metric(float(f1[best]), chance("pixels", maps)), float(c.thresholds[best])


def pro(masks: np.ndarray | None, maps: np.ndarray, limit: float = LIMIT) -> Metric:
    if reason := _undefined(masks, maps):
        return Metric(None, reason)
    c = curve.exact(masks, maps, region_weights(masks))
    return Metric(float(curve.partial_area(c, limit)), chance("pixels", maps))


def _undefined(masks: np.ndarray | None, maps: np.ndarray) -> str:
    return NO_MASKS if masks is None else undefined("pixels", masks, maps)
