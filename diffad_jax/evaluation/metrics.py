"""Every metric of one category's test set, in one call."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from diffad_jax.evaluation import curve, pixels, pro
from diffad_jax.evaluation.bootstrap import Interval, image_intervals, pixel_intervals
from diffad_jax.evaluation.by_defect import metrics_by_defect
from diffad_jax.evaluation.curve_points import Points, precision_recall, roc, thinned, up_to
from diffad_jax.evaluation.f1 import image_f1_max
from diffad_jax.evaluation.pimo import aupimo
from diffad_jax.evaluation.pixels import Counts, Maps, Masks, Pictures
from diffad_jax.evaluation.ranking import Labels, Metric, Scores, image_metrics


@dataclasses.dataclass(frozen=True)
class TestSet:
    """n test photos of one category with their labels and masks."""

    files: Sequence[str]
    defect_types: Sequence[str]
    labels: Labels
    photos: Pictures
    masks: Masks | None  # None where a defect photo has no ground truth


class Point(NamedTuple):
    """A point of a curve: a threshold, where everything at or above it is called anomalous."""

    threshold: float
    recall: float
    precision: float
    false_positive_rate: float
    region_overlap: float | None = (
        None  # of pixels: the mean share of a defect region that is found
    )


@dataclasses.dataclass(frozen=True)
class Curves:
    """Curves to draw, or why there are none."""

    points: dict[str, Points]  # roc, precision_recall; of pixels also pro, up to its limit
    best: Point | None  # where F1 is largest
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class CategoryMetrics:
    """The metrics and curves of a detector on one category's test set."""

    metrics: dict[str, Metric]  # shares in [0, 1]; names with psnr in dB; fid_d is a distance
    intervals: dict[str, Interval]  # 95 %, of some of the metrics
    by_defect: dict[str, dict[str, Metric]]
    aupimo_of_photos: list[float | None]  # None for normal photos
    images: Curves
    pixels: Curves

    @property
    def f1_max_thresholds(self) -> dict[str, float | None]:
        """The thresholds of F1-max, chosen by the test labels."""
        points = {"image_f1_max": self.images.best, "pixel_f1_max": self.pixels.best}
        return {name: None if p is None else p.threshold for name, p in points.items()}


class Definition(NamedTuple):
    """A metric that needs only the test set, the scores and the maps.

    ``compute``: (test, scores, maps) -> the metric, or its reason.
    """

    title: str
    scale: float  # what it is multiplied by to be shown: 100 for a share
    compute: Callable[[TestSet, Scores, Maps], Metric]


# By name in metrics.json. Those that come several at once are made by the modules beside this one.
DEFINITIONS = {
    "image_f1_max": Definition(
        "image F1 max", 100.0, lambda test, scores, maps: image_f1_max(test.labels, scores)[0]
    ),
}


def find(test: TestSet, scores: Scores, maps: Maps, seed: int, memory_mib: int) -> CategoryMetrics:
    """All metrics of scores and maps; an undefined one gives the reason.

    Equal seeds give equal intervals. Metrics of reconstructions (direct copy, FID) are not here.

    Args:
      test: n may be 0.
      scores: of the photos.
      maps: larger is more anomalous, as the method gives them.
      seed: of the resampling.
      memory_mib: for pixel metrics. They are exact where the distinct scores of anomalous pixels
        fit, and have bounds beside them otherwise.
    """
    labels = test.labels
    kinds = [kind if a else "" for kind, a in zip(test.defect_types, labels, strict=True)]
    counts = pixels.count(test.masks, maps, kinds, memory_mib)
    # NumPy leaves the interpreter in its long loops, so each part gets a core.
    with ThreadPoolExecutor() as pool:
        intervals = pool.submit(pixel_intervals, counts, seed)
        defects = pool.submit(metrics_by_defect, test.defect_types, labels, scores, counts)
        of_images, images = _of_images(labels, scores)
        of_pixels, of_pixels_curves = _of_pixels(counts)
        mean_overlap, aupimo_of_photos = aupimo(counts, test.labels, test.masks, maps)
        return CategoryMetrics(
            metrics={
                **of_images,
                **{name: d.compute(test, scores, maps) for name, d in DEFINITIONS.items()},
                **of_pixels,
                "pixel_aupimo": mean_overlap,
            },
            intervals=image_intervals(labels, scores, seed) | intervals.result(),
            by_defect=defects.result(),
            aupimo_of_photos=aupimo_of_photos,
            images=images,
            pixels=of_pixels_curves,
        )


def _of_images(labels: Labels, scores: Scores) -> tuple[dict[str, Metric], Curves]:
    found = image_metrics(labels, scores)
    if found["image_auroc"].value is None:
        return found, Curves({}, None, found["image_auroc"].reason)
    return found, _drawn(curve.exact(labels, scores))


def _of_pixels(counts: Counts | str) -> tuple[dict[str, Metric], Curves]:
    """The metrics in ``pixels.NAMES``."""
    if isinstance(counts, str):
        return dict.fromkeys(pixels.NAMES, Metric(None, counts)), Curves({}, None, counts)
    c, regions = counts.curves()
    return counts.metrics(), _drawn(c, regions)


def _drawn(c: curve.Curve, regions: curve.Curve | None = None) -> Curves:
    """The points of a curve to draw; for pixels also the curve of their regions."""
    best = int(np.argmax(curve.f1(c)))
    found, false = float(c.positives[: best + 1].sum()), int(c.above[best] + c.tied[best])
    point = Point(
        threshold=float(c.thresholds[best]),
        recall=found / float(c.positives.sum()),
        precision=found / (found + false),
        false_positive_rate=false / int(c.num_negatives),
        region_overlap=None
        if regions is None
        else float(regions.positives[: best + 1].sum() / regions.positives.sum()),
    )
    points = {"roc": thinned(roc(c)), "precision_recall": thinned(precision_recall(c))}
    if regions is not None:
        points["pro"] = thinned(up_to(roc(regions), pro.LIMIT))
    return Curves(points, point)
