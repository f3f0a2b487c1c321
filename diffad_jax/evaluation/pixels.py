"""Counts of a test set's pixels, from which every pixel metric follows, in bounded memory.

A level is a distinct score of an anomalous pixel. A ranking metric needs the number of pixels of
either kind that reach each level. Maps are read photo by photo: once for the levels, once to count.
Where memory cannot hold all levels, it holds a part of them. Then a pixel counts at the level below
it, and metrics get bounds on the exact value. Beside the levels, memory holds a few photos and
16 KiB of each.
"""

import dataclasses
import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from diffad_jax.evaluation import curve, pro
from diffad_jax.evaluation.ranking import NO_MASKS, Metric, undefined_by_counts
from diffad_jax.evaluation.stack import Stack

NAMES = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_pro")
_SAMPLE = 2**18  # normal pixels, to place the bins of the histograms by
_BINS = 2048  # of a photo's histogram
_THREADS = 4  # each holds one photo
_BYTES_BESIDE = 320  # of a level, for metrics while they are computed
_WAITING = 2**20  # scores that are put among the levels at once

Maps = Float[np.ndarray | Stack, "n h w"]
Masks = Bool[np.ndarray | Stack, "n h w"]  # true where anomalous
Pictures = UInt8[np.ndarray | Stack, "n h w 3"]
Chosen = Bool[np.ndarray, " n"] | slice  # of photos


@dataclasses.dataclass(frozen=True)
class Survey:
    """The result of a first pass over n photos of h × w pixels."""

    size: int  # pixels of a photo
    areas: Int[np.ndarray, " n"]  # anomalous pixels
    broken: Int[np.ndarray, " n"]  # pixels whose score is NaN or infinite
    lowest: Float[np.ndarray, " n"]  # score
    highest: Float[np.ndarray, " n"]
    # Rising: distinct scores of anomalous pixels, the lowest among them.
    levels: Float[np.ndarray, " k"]
    exact: bool  # they are all there
    sample: Float[np.ndarray, " m"]  # scores of some normal pixels

    def undefined(self, chosen: Chosen = slice(None)) -> str:
        """Like ``ranking.undefined``, for the pixels of the chosen photos."""
        areas = self.areas[chosen]
        return undefined_by_counts(
            "pixels", self.size * areas.size, int(areas.sum()), int(self.broken[chosen].sum())
        )

    def chance(self, chosen: Chosen = slice(None)) -> str:
        """Like ``ranking.chance``, for the pixels of the chosen photos."""
        same = self.lowest[chosen].min() == self.highest[chosen].max()
        return "all pixels have the same score" if same else ""

    def bounds(self, low: float, high: float) -> str:
        """The note beside a metric that is not exact."""
        low, high = math.floor(low * 1e9) / 1e9, math.ceil(high * 1e9) / 1e9
        return f"from {self.levels.size} levels: the exact value is in [{low:.9f}, {high:.9f}]"


@dataclasses.dataclass(frozen=True)
class Counts:
    """Pixels of g groups of photos at k levels; a pixel belongs to the highest level it reaches."""

    seen: Survey
    # Of each photo; one kind in each, with anomalous pixels or without.
    groups: Int[np.ndarray, " n"]
    positives: Int[np.ndarray, "g k"]  # anomalous pixels
    regions: Float[np.ndarray, "g k"]  # anomalous pixels, each as 1 / the area of its region
    negatives: Int[np.ndarray, "g k"]  # normal pixels
    tied: Int[np.ndarray, "g k"]  # normal pixels that score just the level
    # Normal and anomalous pixels, the highest bin first.
    histograms: Float32[np.ndarray, "2 n bins"]

    def curves(self, chosen: Chosen = slice(None)) -> tuple[curve.Curve, curve.Curve]:
        """Curves of the chosen photos' pixels, and of their regions with equal weight.

        All photos of a group are chosen, or none.
        """
        seen, groups = self.seen, np.unique(self.groups[chosen])
        negatives = self.negatives[groups].sum(axis=0)[::-1]
        tied = self.tied[groups].sum(axis=0)[::-1] if seen.exact else negatives
        pixels = curve.Curve(
            thresholds=seen.levels[::-1],
            positives=self.positives[groups].sum(axis=0)[::-1],
            above=np.cumsum(negatives) - tied,
            tied=tied,
            num_negatives=int(np.sum(seen.size - seen.areas[chosen])),
        )
        return pixels, pixels._replace(positives=self.regions[groups].sum(axis=0)[::-1])

    def metrics(self, chosen: Chosen = slice(None)) -> dict[str, Metric]:
        """The metrics in ``NAMES`` of the chosen photos, as in ``curves``. They are undefined where
        ``ranking.image_metrics`` are. Metrics that are not exact come with their bounds."""
        if reason := self.seen.undefined(chosen):
            return dict.fromkeys(NAMES, Metric(None, reason))
        pixels, regions = self.curves(chosen)
        values = (
            curve.auroc(pixels),
            curve.average_precision(pixels),
            np.max(curve.f1(pixels)),
            curve.partial_area(regions, pro.LIMIT),
        )
        notes = [self.seen.chance(chosen)] * len(NAMES)
        if not self.seen.exact:
            bounds = (
                curve.auroc_bounds(pixels),
                curve.average_precision_bounds(pixels),
                curve.f1_max_bounds(pixels),
                curve.partial_area_bounds(regions, pro.LIMIT),
            )
            notes = [self.seen.bounds(*pair) for pair in bounds]
        return {n: Metric(float(v), s) for n, v, s in zip(NAMES, values, notes, strict=True)}


def count(masks: Masks | None, maps: Maps, kinds: Sequence[str], memory_mib: int) -> Counts | str:
    """Counts in two passes over all photos; or the reason why not, as ``ranking.image_metrics``.

    Args:
      masks: None where defect photos lack them.
      maps: larger is more anomalous.
      kinds: n names; photos of one name are never parted.
      memory_mib: limits the number of levels.
    """
    if masks is None:
        return NO_MASKS
    bytes_of_level = 32 * (len(set(kinds)) + 1) + _BYTES_BESIDE
    most = max(memory_mib * 2**20 // bytes_of_level, 2)
    seen = _survey(masks, maps, most)
    if reason := seen.undefined():
        return reason
    names = [(kind, area > 0) for kind, area in zip(kinds, seen.areas, strict=True)]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return _count(seen, masks, maps, np.array([numbers[name] for name in names]))


def _survey(masks: Masks, maps: Maps, most: int) -> Survey:
    """A survey with at most ``most`` levels (2 or more); beyond, every second one is dropped."""
    n, size = len(maps), int(np.prod(maps.shape[1:]))
    areas, broken = np.zeros(n, np.int64), np.zeros(n, np.int64)
    ends = np.zeros((2, n))
    levels, sample = _Levels(most), []
    stride = max(n * size // _SAMPLE, 1)
    for i in range(n):
        mask, scores = masks[i], maps[i]
        areas[i] = np.count_nonzero(mask)
        broken[i] = size - np.count_nonzero(np.isfinite(scores))
        ends[:, i] = scores.min(), scores.max()
        sample.append(scores[~mask][i % stride :: stride].copy())  # not a view of all
        if areas[i]:
            levels.add(scores[mask])
    levels.merge()
    return Survey(
        size, areas, broken, ends[0], ends[1], levels.values, levels.exact,
        np.concatenate(sample) if sample else np.zeros(0),
    )  # fmt: skip


def _count(seen: Survey, masks: Masks, maps: Maps, groups: np.ndarray) -> Counts:
    levels, edges = seen.levels, _edges(seen)
    shape = (int(groups.max()) + 1, levels.size)
    positives, negatives, tied = (np.zeros(shape, np.int64) for _ in range(3))
    regions = np.zeros(shape)
    histograms = np.zeros((2, len(maps), edges.size), np.float32)
    adding = threading.Lock()

    def count_normal(i: int) -> None:
        # A photo at a time stays in the processor's cache; NumPy sorts and searches without the
        # interpreter's lock.
        scores = np.sort(maps[i][~masks[i]])
        histograms[0, i] = _histogram(scores, edges)
        scores = scores[np.searchsorted(scores, levels[0]) :]
        at = np.searchsorted(levels, scores, side="right") - 1
        equal = at[levels[at] == scores]
        with adding:
            np.add.at(negatives[groups[i]], at, 1)
            np.add.at(tied[groups[i]], equal, 1)

    def count_anomalous(i: int) -> None:
        mask = masks[i]
        scores = maps[i][mask]
        histograms[1, i] = _histogram(np.sort(scores), edges)
        at = np.searchsorted(levels, scores, side="right") - 1
        np.add.at(positives[groups[i]], at, 1)
        np.add.at(regions[groups[i]], at, pro.region_weights(mask[None]))

    with ThreadPoolExecutor(_THREADS) as pool:
        counted = pool.map(count_normal, range(len(maps)))
        for i in np.flatnonzero(seen.areas):  # in order: sums of weights are equal in every run
            count_anomalous(i)
        list(counted)
    return Counts(seen, groups, positives, regions, negatives, tied, histograms)


class _Levels:
    """Distinct values, rising; where there are too many, every second one is dropped."""

    def __init__(self, most: int):
        self.values, self.exact = np.zeros(0, np.float32), True
        self._most, self._waiting, self._count = most, [], 0

    def add(self, scores: np.ndarray) -> None:
        self._waiting.append(scores)
        self._count += scores.size
        if self._count > max(_WAITING, self.values.size):
            self.merge()

    def merge(self) -> None:
        if self._waiting:
            own = [self.values] if self.values.size else []
            self.values = np.unique(np.concatenate(own + self._waiting))
        self._waiting, self._count = [], 0
        while self.values.size > self._most:
            self.values, self.exact = self.values[::2].copy(), False  # the lowest stays


def _edges(seen: Survey) -> np.ndarray:
    """[bins] rising lower ends, at about equal shares of levels and of normal pixels."""
    quantiles = np.linspace(0.0, 1.0, _BINS // 2)
    found = [
        np.quantile(values, quantiles, method="lower")
        for values in (seen.levels, seen.sample)
        if values.size
    ]
    return np.unique(np.concatenate([*found, [seen.lowest.min()]]))


def _histogram(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """[bins]: how many of the rising scores lie in each bin, the highest bin first."""
    at_least = scores.size - np.searchsorted(scores, edges)
    return np.diff(at_least[::-1], prepend=0)
