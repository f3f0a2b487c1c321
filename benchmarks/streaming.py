"""Training batches from photos that memory does not hold: 5,000 JPEGs of 2000 × 2000.

    python -m benchmarks.streaming --steps=50

The photos are made in a temporary folder: eight different pictures, and hard links to them under
5,000 names, so that the disk holds eight files while each name is listed, opened and decoded like
a file of its own. (The operating system caches the eight: reading from a slow disk is not
measured.) Printed are the seconds of listing the photos, of the first batch and of the batches
after it, and the process's peak memory. The last line is one JSON object.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

from benchmarks import pictures
from configs import mvtec
from diffad_jax.data import layouts, pipeline

MAX_MEMORY_MIB = 2 * 1024
DIFFERENT = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--side", type=int, default=2000, help="pixels of a photo's side")
    parser.add_argument("--steps", type=int, default=50, help="batches that are timed")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--cache_mib", type=int, default=64, help="config.data.cache_mib")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        _write_photos(Path(root) / "large" / "train" / "good", args.photos, args.side)
        report = _measure(root, args)
    for name, metric in report.items():
        print(f"{name:24}{metric:10.2f}")
    if report["peak_memory_mib"] >= MAX_MEMORY_MIB:
        print(f"Above the limit of {MAX_MEMORY_MIB} MiB.")
    print(json.dumps(report))


def _write_photos(folder: Path, count: int, side: int) -> None:
    pictures.write_folder(folder, min(DIFFERENT, count), side, ".jpg", seed=0)
    for i in range(DIFFERENT, count):
        os.link(folder / f"{i % DIFFERENT:04d}.jpg", folder / f"{i:04d}.jpg")


def _measure(root: str, args: argparse.Namespace) -> dict[str, float]:
    config = mvtec.get_config("large")
    config.data.root, config.data.cache_mib = root, args.cache_mib
    config.data.textures = "procedural"
    started = time.perf_counter()
    photos = layouts.read_category(root, "large", config.data.layout)
    indexed = time.perf_counter()
    batches = pipeline.batches(config, "large", split="train", batch_size=args.batch_size)
    next(batches)
    first = time.perf_counter()
    for _ in range(args.steps):
        next(batches)
    seconds = time.perf_counter() - first
    return {
        "photos": len(photos),
        "indexing_seconds": indexed - started,
        "first_batch_seconds": first - indexed,
        "seconds": seconds,
        "images_per_second": args.steps * args.batch_size / seconds,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
