"""Our pixel figures against scikit-learn's and a plain PRO: seconds on a synthetic test set.

    python -m benchmarks.metrics

150 maps of 256 × 256 with random defects, the same in each run. Ours and the references take
turns, so that other work on the machine meets both; printed are the median over the rounds and the
best round. The last line is one JSON object.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from diffad_jax.evaluation.bootstrap import pixel_intervals
from diffad_jax.evaluation.f1 import pixel_f1_max
from diffad_jax.evaluation.pimo import aupimo
from diffad_jax.evaluation.pixels import PixelBins
from diffad_jax.evaluation.pro import LIMIT, pro
from diffad_jax.evaluation.ranking import pixel_figures

BATCH_SIZE = 8  # of the stream


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=150)
    parser.add_argument("--size", type=int, default=256, help="pixels of a map's side")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    report = measure(*test_set(args.photos, args.size), args.rounds)
    print(f"{'run':18}{'median s':>10}{'best s':>10}  what")
    for name, (_, what) in RUNS.items():
        median, best = report[f"{name}_seconds"], report[f"{name}_best_seconds"]
        print(f"{name:18}{median:10.2f}{best:10.2f}  {what}")
    for name in ("ratio", "pro_ratio"):
        print(f"{name:18}{report[name]:10.1f}")
    print(json.dumps(report))


def test_set(photos: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks [n, size, size] bool, two photos in three with defects; maps in [0, 1] that find most.

    ``size`` is at least 8.
    """
    rng = np.random.default_rng(0)
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


def measure(masks: np.ndarray, maps: np.ndarray, rounds: int) -> dict[str, float]:
    """Seconds of each run, how many times faster ours is, and by how much figures differ."""
    seconds: dict[str, list[float]] = {name: [] for name in RUNS}
    values = {}
    for _ in range(rounds):
        for name, (run, _) in RUNS.items():
            started = time.perf_counter()
            values[name] = run(masks, maps)
            seconds[name].append(time.perf_counter() - started)
    report: dict[str, float] = {"pixels": maps.size}
    for name, taken in seconds.items():
        report[f"{name}_seconds"] = statistics.median(taken)
        report[f"{name}_best_seconds"] = min(taken)
    for name, (low, high) in values["ours_stream"].items():
        report[f"stream_{name}_bounds_width"] = high - low
    ours = [values["ours"][name].value for name in ("pixel_auroc", "pixel_ap")]
    return report | {
        "ratio": _ratio(seconds, "scikit_learn", "ours"),
        "pro_ratio": _ratio(seconds, "plain_pro", "ours_pro"),
        "difference_to_scikit_learn": max(
            abs(a - b) for a, b in zip(ours, values["scikit_learn"], strict=True)
        ),
        "pro": values["ours_pro"].value,
        "plain_pro": values["plain_pro"],
    }


def _ratio(seconds: dict[str, list[float]], reference: str, ours: str) -> float:
    """The median over the rounds: the two stand side by side in each."""
    pairs = zip(seconds[reference], seconds[ours], strict=True)
    return statistics.median(theirs / own for theirs, own in pairs)


def sklearn_figures(masks: np.ndarray, maps: np.ndarray) -> tuple[float, float]:
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


def bootstrap(masks: np.ndarray, maps: np.ndarray) -> dict:
    return pixel_intervals(masks, maps, seed=0)


def stream(masks: np.ndarray, maps: np.ndarray) -> dict[str, tuple[float, float]]:
    bins = PixelBins()
    for start in range(0, len(maps), BATCH_SIZE):
        bins.update(masks[start : start + BATCH_SIZE], maps[start : start + BATCH_SIZE])
    return bins.bounds()


# Name -> (what is timed, what it is).
RUNS: dict[str, tuple[Callable, str]] = {
    "ours": (pixel_figures, "AUROC and AP, exact"),
    "scikit_learn": (sklearn_figures, "AUROC and AP, exact"),
    "ours_pro": (pro, "PRO, exact"),
    "plain_pro": (plain_pro, "PRO at 100 thresholds"),
    "ours_stream": (stream, "bounds of AUROC, AP, F1-max and PRO from 2^20 bins"),
    "ours_f1": (pixel_f1_max, "F1-max, exact"),
    "ours_aupimo": (aupimo, "AUPIMO"),
    "ours_bootstrap": (bootstrap, "AUROC, AP and F1-max of 1000 resamples"),
}


if __name__ == "__main__":
    main()
