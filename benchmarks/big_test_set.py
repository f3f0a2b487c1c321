"""Pixel metrics of a test set that memory does not hold: 5,000 maps of 256 × 256 on the disk.

    python -m benchmarks.big_test_set --memory_mib=1024

The maps are those of ``benchmarks.metrics``, made and written in batches. Printed are the seconds
of ``metrics.find``, the size of maps and masks, the process's peak memory before and after, and how
far apart the bounds of the metrics are (0 where they are exact). The last line is one JSON object.
"""

import argparse
import json
import re
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.metrics import test_set
from diffad_jax.evaluation import metrics, pixels
from diffad_jax.evaluation.stack import Stack

BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--size", type=int, default=256, help="pixels of a map's side")
    parser.add_argument("--memory_mib", type=int, default=1024, help="config.evaluation.memory_mib")
    args = parser.parse_args()
    report = measure(args.photos, args.size, args.memory_mib)
    for name, metric in report.items():
        print(f"{name:28}{metric:14.6g}")
    print(json.dumps(report))


def measure(photos: int, size: int, memory_mib: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        masks = Stack(Path(folder), (size, size), bool)
        maps = Stack(Path(folder), (size, size), np.float32)
        scores, labels = [], []
        for start in range(0, photos, BATCH):
            truth, scored = test_set(min(BATCH, photos - start), size, seed=start)
            masks.append(truth)
            maps.append(scored)
            scores.append(scored.max(axis=(1, 2)).astype(np.float64))
            labels.append(truth.any(axis=(1, 2)))
        anomalous = np.concatenate(labels)
        kinds = [f"type {i % 3}" if a else "good" for i, a in enumerate(anomalous)]
        names = [f"{i}.png" for i in range(photos)]
        test = metrics.TestSet(names, kinds, anomalous, maps, masks)
        before, started = _peak_mib(), time.perf_counter()
        found = metrics.find(test, np.concatenate(scores), maps, 0, memory_mib)
        seconds = time.perf_counter() - started
    report = {
        "photos": photos,
        "maps_and_masks_mib": photos * size * size * 5 / 2**20,
        "memory_mib": memory_mib,
        "seconds": seconds,
        "peak_memory_before_mib": before,
        "peak_memory_mib": _peak_mib(),
    }
    for name in (*pixels.NAMES, "pixel_aupimo"):
        bounds = re.search(r"\[([0-9.]+), ([0-9.]+)\]", found.metrics[name].reason)
        report[name] = found.metrics[name].value
        report[f"{name}_bounds_width"] = float(bounds[2]) - float(bounds[1]) if bounds else 0.0
    return report


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
