"""Our pixel metrics against scikit-learn's and a plain PRO: seconds on a synthetic test set.

    python -m benchmarks.metrics

150 maps of 256 × 256 with random defects, the same in each run. Ours and the references take
turns, so that other work on the machine meets both; printed are the median over the rounds, the
best round, and the median of the processor's seconds. The last line is one JSON object.
"""

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from diffad_jax.evaluation import metrics, pixels
from diffad_jax.evaluation.bootstrap import pixel_intervals
from diffad_jax.evaluation.by_defect import metrics_by_defect
from diffad_jax.evaluation.pimo import aupimo
from diffad_jax.evaluation.pro import LIMIT

MEMORY_MIB = 1024  # as in configs/mvtec.py: all levels fit
LITTLE_MIB = 8  # they do not


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=150)
    parser.add_argument("--size", type=int, default=256, help="pixels of a map's side")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    report = measure(*test_set(args.photos, args.size), args.rounds)
    print(f"{'run':18}{'median s':>10}{'best s':>10}{'CPU s':>10}  what")
    for name, (_, what) in RUNS.items():
        taken = (report[f"{name}_{kind}"] for kind in ("seconds", "best_seconds", "cpu_seconds"))
        print(f"{name:18}{''.join(f'{seconds:10.2f}' for seconds in taken)}  {what}")
    for name in ("ratio", "pro_ratio", "ratio_of_all_metrics"):
        print(f"{name:22}{report[name]:6.1f}")
    print(json.dumps(report))


def test_set(photos: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Masks [n, size, size] bool, two photos in three with defects; maps in [0, 1] that find most.

    ``size`` is at least 8.
    """
    rng = np.random.default_rng(seed)
    masks = np.zeros((photos, size, size), bool)
    for mask in masks[photos // 3 :]:
        for _ in range(rng.integers(1, 4)):
            (y, x), (height, width) = (
                rng.integers(0, size - 4, 2),
                rng.integers(4, size // 4 + 4, 2),
            )
            mask[y : y + height, x : x + width] = True
    noise = ndimage.gaussian_filter(rng.standard_normal(masks.shape, np.float32), (0, 3, 3))
    found = ndimage.gaussian_filter(masks.astype(np.float32), (0, 2, 2))
    return masks, 1.0 / (1.0 + np.exp(4.0 - 5.0 * found - 12.0 * noise))


class Case:
    """A test set and what parts of the work need of the others."""

    def __init__(self, masks: np.ndarray, maps: np.ndarray, little_mib: int):
        self.little_mib = little_mib
        self.masks, self.maps, self.labels = masks, maps, masks.any(axis=(1, 2))
        self.scores = maps.max(axis=(1, 2)).astype(np.float64)
        self.kinds = [f"type {i % 3}" if a else "good" for i, a in enumerate(self.labels)]
        self.counts = self.count(MEMORY_MIB)

    def count(self, memory_mib: int) -> pixels.Counts | str:
        return pixels.count(self.masks, self.maps, self.kinds, memory_mib)

    def find(self, memory_mib: int) -> metrics.CategoryMetrics:
        names = [f"{i}.png" for i in range(len(self.maps))]
        photos = np.zeros((*self.maps.shape, 3), np.uint8)
        test = metrics.TestSet(names, self.kinds, self.labels, photos, self.masks)
        return metrics.find(test, self.scores, self.maps, 0, memory_mib)


def measure(
    masks: np.ndarray, maps: np.ndarray, rounds: int, little_mib: int = LITTLE_MIB
) -> dict[str, float]:
    """Seconds of each run, how many times faster ours is, and by how much metrics differ."""
    seconds: dict[str, list[float]] = {name: [] for name in RUNS}
    of_cpu: dict[str, list[float]] = {name: [] for name in RUNS}
    case, values = Case(masks, maps, little_mib), {}
    for _ in range(rounds):
        for name, (run, _) in RUNS.items():
            started, cpu = time.perf_counter(), time.process_time()
            values[name] = run(case)
            seconds[name].append(time.perf_counter() - started)
            of_cpu[name].append(time.process_time() - cpu)
    report: dict[str, float] = {"pixels": maps.size}
    for name, taken in seconds.items():
        report[f"{name}_seconds"] = statistics.median(taken)
        report[f"{name}_best_seconds"] = min(taken)
        report[f"{name}_cpu_seconds"] = statistics.median(of_cpu[name])
    exact, bounded = (values[name].metrics for name in ("find", "find_in_little"))
    for name in pixels.NAMES:
        low, high = re.findall(r"[0-9.]+(?=[,\]])", bounded[name].reason)
        report[f"bounds_width_{name}"] = float(high) - float(low)
    return report | {
        "ratio": _ratio(seconds, ("scikit_learn",), "ours"),
        "pro_ratio": _ratio(seconds, ("plain_pro",), "ours"),
        "ratio_of_all_metrics": _ratio(seconds, ("scikit_learn", "plain_pro"), "find"),
        "difference_to_scikit_learn": max(
            abs(exact[name].value - theirs)
            for name, theirs in zip(pixels.NAMES, values["scikit_learn"], strict=False)
        ),
        "pro": exact["pixel_pro"].value,
        "plain_pro": values["plain_pro"],
    }


def _ratio(seconds: dict[str, list[float]], references: tuple[str, ...], ours: str) -> float:
    """The median over the rounds: the runs stand side by side in each."""
    theirs = zip(*(seconds[name] for name in references), strict=True)
    return statistics.median(sum(a) / b for a, b in zip(theirs, seconds[ours], strict=True))


def sklearn_metrics(masks: np.ndarray, maps: np.ndarray) -> tuple[float, float]:
    labels, scores = masks.ravel(), maps.ravel()
    return roc_auc_score(labels, scores), average_precision_score(labels, scores)


def plain_pro(masks: np.ndarray, maps: np.ndarray, num_thresholds: int = 100) -> float:
    """PRO the usual way: at evenly spaced thresholds, region by region."""
    neighbours = np.zeros((3, 3, 3), bool)
    neighbours[1] = True
    regions, count = ndimage.label(masks, neighbours)
    index = np.arange(1, count + 1)
    rates, overlaps = [0.0], [0.0]
    for threshold in np.linspace(maps.max(), maps.min(), num_thresholds):
        found = maps >= threshold
        rates.append(np.mean(found[~masks]))
        overlaps.append(np.mean(ndimage.mean(found, regions, index)))
    inside = np.linspace(0.0, LIMIT, 10_001)
    return float(np.trapezoid(np.interp(inside, rates, overlaps), inside) / LIMIT)


# Name -> (what is timed, what it is).
RUNS: dict[str, tuple[Callable[[Case], Any], str]] = {
    "find": (lambda c: c.find(MEMORY_MIB), "all metrics of a category, by metrics.find"),
    "scikit_learn": (lambda c: sklearn_metrics(c.masks, c.maps), "AUROC and AP"),
    "ours": (lambda c: c.count(MEMORY_MIB).metrics(), "AUROC, AP, F1-max and PRO"),
    "plain_pro": (lambda c: plain_pro(c.masks, c.maps), "PRO at 100 thresholds"),
    "find_in_little": (lambda c: c.find(c.little_mib), "all metrics, with bounds, in 8 MiB"),
    "part_count": (lambda c: c.count(MEMORY_MIB), "part of find: the pixels are counted"),
    "part_metrics": (lambda c: c.counts.metrics(), "part: AUROC, AP, F1-max and PRO"),
    "part_by_defect": (
        lambda c: metrics_by_defect(c.kinds, c.labels, c.scores, c.counts),
        "part: AUROC and AP of three types of defect",
    ),
    "part_aupimo": (lambda c: aupimo(c.counts, c.labels, c.masks, c.maps), "part: AUPIMO"),
    "part_bootstrap": (
        lambda c: pixel_intervals(c.counts, seed=0),
        "part: AUROC, AP and F1-max of 1000 resamples",
    ),
}


if __name__ == "__main__":
    main()
