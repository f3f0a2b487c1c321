"""Every figure of one category's test set, in one call."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from diffad_jax.evaluation import curve, pro
from diffad_jax.evaluation.bootstrap import Interval, image_intervals, pixel_intervals
from diffad_jax.evaluation.by_defect import figures_by_defect
from diffad_jax.evaluation.curve_points import Points, precision_recall, roc, thinned, up_to
from diffad_jax.evaluation.direct_copy import direct_copy_figures
from diffad_jax.evaluation.pimo import aupimo
from diffad_jax.evaluation.ranking import NO_MASKS, Figure, chance, undefined


@dataclasses.dataclass(frozen=True)
class TestSet:
    """n test photos of one category and what is known of them."""

    files: Sequence[str]
    defect_types: Sequence[str]
    labels: np.ndarray  # [n] bool: anomalous
    photos: np.ndarray  # [n, s, s, 3] uint8
    masks: np.ndarray | None  # [n, s, s] bool; None where a defect photo has no ground truth


class Point(NamedTuple):
    """Of a curve: what a threshold gives where everything at or above it is called anomalous."""

    threshold: float
    recall: float
    precision: float
    false_positive_rate: float


@dataclasses.dataclass(frozen=True)
class Curves:
    """Curves to draw, or why there are none."""

    points: dict[str, Points]  # roc, precision_recall; of pixels also pro, up to its limit
    best: Point | None  # where F1 is largest
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Findings:
    """What one category's test set says of a detector."""

    figures: dict[str, Figure]  # shares in [0, 1]; names with psnr in dB; fid_d is a distance
    intervals: dict[str, Interval]  # 95 %, of some of the figures
    by_defect: dict[str, dict[str, Figure]]
    aupimo_of_photos: list[float | None]  # [n], None for normal photos
    images: Curves
    pixels: Curves

    @property
    def f1_max_thresholds(self) -> dict[str, float | None]:
        """Of F1-max; chosen by the test labels."""
        points = {"image_f1_max": self.images.best, "pixel_f1_max": self.pixels.best}
        return {name: None if p is None else p.threshold for name, p in points.items()}


def find(
    test: TestSet,
    scores: np.ndarray,
    maps: np.ndarray,
    reconstructions: np.ndarray | None,
    seed: int,
) -> Findings:
    """All figures but FID; what is undefined says why. Equal seeds give equal intervals.

    Args:
      test: n may be 0.
      scores: [n], larger is more anomalous.
      maps: [n, s, s], larger is more anomalous, as the method gives them.
      reconstructions: [n, s, s, 3] float32 in [0, 1]; None where the method makes none.
      seed: of the resampling.
    """
    labels, masks = test.labels, test.masks
    # Sorts of millions of pixels, for which NumPy needs no interpreter: a core for each.
    with ThreadPoolExecutor() as pool:
        intervals = pool.submit(pixel_intervals, masks, maps, seed)
        defects = pool.submit(figures_by_defect, test.defect_types, labels, scores, masks, maps)
        overlap = pool.submit(aupimo, masks, maps)
        photos = np.divide(test.photos, 255.0, dtype=np.float32)
        of_images, images = _of_images(labels, scores)
        of_pixels, pixels = _of_pixels(masks, maps)
        copied = direct_copy_figures(photos, reconstructions, masks, labels)
        mean_overlap, aupimo_of_photos = overlap.result()
        return Findings(
            figures={**of_images, **of_pixels, "pixel_aupimo": mean_overlap, **copied},
            intervals=image_intervals(labels, scores, seed) | intervals.result(),
            by_defect=defects.result(),
            aupimo_of_photos=aupimo_of_photos,
            images=images,
            pixels=pixels,
        )


def _of_images(labels: np.ndarray, scores: np.ndarray) -> tuple[dict[str, Figure], Curves]:
    """``ranking.image_figures`` and F1-max, from one curve."""
    names = ("image_auroc", "image_ap", "image_f1_max")
    if reason := undefined("test photos", labels, scores):
        return dict.fromkeys(names, Figure(None, reason)), Curves({}, None, reason)
    c = curve.exact(labels, scores)
    found, curves = _of_curve(c)
    note = chance("test photos", scores)
    return {n: Figure(v, note) for n, v in zip(names, found, strict=True)}, curves


def _of_pixels(masks: np.ndarray | None, maps: np.ndarray) -> tuple[dict[str, Figure], Curves]:
    """``ranking.pixel_figures``, F1-max and PRO: one sort of the pixels serves all."""
    names = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_pro")
    reason = NO_MASKS if masks is None else undefined("pixels", masks, maps)
    if masks is None or reason:
        return dict.fromkeys(names, Figure(None, reason)), Curves({}, None, reason)
    c = curve.exact(masks, maps)
    level = np.searchsorted(c.thresholds[::-1], maps[masks])
    regions = c._replace(positives=np.bincount(level, pro.region_weights(masks))[::-1])
    found, curves = _of_curve(c)
    curves.points["pro"] = thinned(up_to(roc(regions), pro.LIMIT))
    found.append(float(curve.partial_area(regions, pro.LIMIT)))
    note = chance("pixels", maps)
    return {n: Figure(v, note) for n, v in zip(names, found, strict=True)}, curves


def _of_curve(c: curve.Curve) -> tuple[list[float], Curves]:
    """AUROC, AP and F1-max; and what is drawn of the curve."""
    f1 = curve.f1(c)
    best = int(np.argmax(f1))
    found, false = float(c.positives[: best + 1].sum()), int(c.above[best] + c.tied[best])
    point = Point(
        threshold=float(c.thresholds[best]),
        recall=found / float(c.positives.sum()),
        precision=found / (found + false),
        false_positive_rate=false / int(c.num_negatives),
    )
    points = {"roc": thinned(roc(c)), "precision_recall": thinned(precision_recall(c))}
    values = (curve.auroc(c), curve.average_precision(c), f1[best])
    return [float(v) for v in values], Curves(points, point)
