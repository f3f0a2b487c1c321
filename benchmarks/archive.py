"""What scoring an archive costs besides scoring: listing, decoding, tables, joining of shards.

    python -m benchmarks.archive --photos=100000 --rows=10000000 --listed=10000000

The photos are hard links to one a folder, the detector is a stand-in that costs nothing. One
process scores them, then two shards side by side, whose tables are joined, then Ray with one and
with two workers (where it is installed), which draws no thumbnails. Then tables of ``--rows`` rows
that two shards would have left are joined, and one of ``--shards`` shards lists its photos among
``--listed`` names, which are drawn: there are no files. ``--only`` chooses among these parts. The
last line is one JSON object; ``ratio`` is the rate of two shards over that of one process.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np
from PIL import Image

from configs import mvtec_small
from diffad_jax.commands import predict
from diffad_jax.config import stored
from diffad_jax.inference import shards, sources
from diffad_jax.inference.calibration import Calibration
from diffad_jax.types import Prediction

PARTS = ("one", "shards", "ray", "rows", "listing")
A_FOLDER = 10_000  # links; a file system allows only so many of a file
MIB = 2**20


class Free:
    """A detector that costs nothing."""

    weights_hash, taken = "stand-in", None

    def __init__(self, config: ml_collections.ConfigDict):
        self.config = ml_collections.FrozenConfigDict(config)

    def predict_all(self, photos: np.ndarray, batch_size: int) -> Prediction:
        maps = np.zeros(photos.shape[:3], np.float32)
        return Prediction(maps.max((1, 2)), maps, None, None)


def stand_in(*users: object) -> ml_collections.ConfigDict:
    """Puts ``Free`` in the place of work directories, for the modules that load them."""
    config = mvtec_small.get_config("parts")
    config.image_size, config.normal_level.floor = 64, 0.0
    config.evaluation.batch_size = 32
    predict.Detector.from_workdir = lambda config, *_: Free(config)
    stored.of_workdir = lambda *_: config
    for module in users:
        module.load_or_choose = lambda *_: Calibration(
            0.5, (0.0, 1.0), 0.05, 20, 1, pixel_threshold=0.5
        )
    return config


def score(photos: str, scores: str, shard: str) -> None:
    """In a process of its own; prints seconds and memory."""
    folder, output, config = Path(photos), Path(scores), stand_in(predict)
    begun = time.perf_counter()
    listed = len(sources.list_photos(folder, output).photos)
    listing = time.perf_counter() - begun
    begun = time.perf_counter()
    how = predict.How(save=(), shard=shards.parse(shard) if shard else None)
    predict.predict_photos(config, output, folder, output, how)
    report(photos=listed, listing_seconds=listing, seconds=time.perf_counter() - begun)


def score_by_ray(folder: str, output: str, workers: str) -> None:
    """In a process of its own; prints the script's line."""
    from launch import ray_predict

    class Scorer(ray_predict.Scorer):
        def __init__(self, settings: ray_predict.Settings):
            stand_in(ray_predict)
            super().__init__(settings)

    places = [f"--workdir={output}", f"--input={folder}", f"--output={output}"]
    sys.argv = ["ray_predict", *places, f"--workers={workers}"]
    ray_predict.main(Scorer)


def join(output: str) -> None:
    """In a process of its own."""
    config = mvtec_small.get_config("parts")
    begun = time.perf_counter()
    predict.merge(config, Path(output))
    report(seconds=time.perf_counter() - begun)


class Drawn(NamedTuple):
    """An entry of a folder that there is not."""

    name: str
    is_folder: bool

    def is_dir(self) -> bool:
        return self.is_folder


def list_share(folder: str, count: str, shard: str) -> None:
    """In a process of its own, of as many photos in folders."""

    def scandir(path: str) -> contextlib.AbstractContextManager[Iterator[Drawn]]:
        if path == folder:
            return contextlib.nullcontext(
                Drawn(f"{i:05d}", True) for i in range(int(count) // A_FOLDER)
            )
        return contextlib.nullcontext(Drawn(f"{i:04d}.png", False) for i in range(A_FOLDER))

    os.scandir, output = scandir, Path(folder, "out")
    begun = time.perf_counter()
    listed = len(sources.list_photos(folder, output, shards.parse(shard).holds).photos)
    report(photos=listed, seconds=time.perf_counter() - begun)


def report(**figures: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    print(json.dumps(figures | {"peak_memory_mib": used.ru_maxrss / 1024, "cpu_seconds": cpu}))


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.archive", "--part", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )  # its progress would be shown


def last_line(process: subprocess.Popen) -> dict[str, float]:
    said = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{process.args} failed")
    return json.loads(said.splitlines()[-1])


def figures_of_ray(process: subprocess.Popen) -> dict[str, float]:
    """As of ``report``, for all processes that Ray starts; memory that they share counts once."""
    import psutil

    spent: dict[int, float] = {}
    peak = 0.0
    while process.poll() is None:
        held = 0
        for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]:
            try:
                held += one.memory_full_info().pss
                spent[one.pid] = sum(one.cpu_times()[:2])
            except psutil.Error:  # it has ended meanwhile
                continue
        peak = max(peak, held)
        time.sleep(1)
    said = process.communicate()[0]
    found = re.search(r"([0-9]+) photos in ([0-9]+) s", said)
    if process.returncode or not found:
        raise SystemExit(f"{process.args} failed")
    return {"seconds": float(found[2]), "cpu_seconds": sum(spent.values())} | {
        "peak_memory_mib": peak / MIB
    }


def link(folder: Path, count: int, side: int) -> None:
    """Photos in folders."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    for first in range(0, count, A_FOLDER):
        part = folder / f"{first // A_FOLDER:05d}"
        part.mkdir(parents=True)
        Image.fromarray(noise).save(part / "0000.png")
        for i in range(1, min(A_FOLDER, count - first)):
            os.link(part / "0000.png", part / f"{i:04d}.png")


def write_rows(output: Path, count: int) -> None:
    """Tables of two finished shards, with rows as ``score`` writes them."""
    row = {
        "file": "", "score": 0.0, "is_anomalous": False, "root": "/archive", "name": "",
        "bytes": 12528, "modified_ns": 1_790_000_000_000_000_000, "error": None, "width": 64,
        "height": 64, "windows": 1, "pictures_reduced": 1, "num_regions": 1,
        "regions": [{"box": [1, 2, 3, 4], "area": 12, "peak": 0.75, "peak_at": [1, 2]}],
        "thumbnail": "", "detector": "0123456789ab", "threshold": 0.5, "pixel_threshold": 0.5,
    }  # fmt: skip
    for shard in (shards.Shard(0, 2), shards.Shard(1, 2)):
        folder = shard.folder(output)
        folder.mkdir(parents=True)
        with (folder / "predictions.jsonl").open("w") as file:
            for i in range(shard.index, count, 2):
                name = f"{i // A_FOLDER:05d}/{i % A_FOLDER:04d}.png"
                row |= {"name": name, "file": f"/archive/{name}", "score": i / count}
                row["thumbnail"] = f"thumbnails/{name}.jpg"
                file.write(json.dumps(row) + "\n")
        (folder / "finished.json").write_text("{}")


def of_part(name: str, figures: dict[str, float], **more: float) -> dict[str, float]:
    return {f"{key}_{name}": value for key, value in (figures | more).items() if key != "photos"}


def measure(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    photos, found = folder / "photos", {}
    if {"one", "shards", "ray"} & {*args.only}:
        link(photos, args.photos, args.side)
    if "one" in args.only:
        alone = last_line(start("score", photos, folder / "one", ""))
        found |= of_part("one", alone, photos_per_second=args.photos / alone["seconds"])
    if "shards" in args.only:
        both = [start("score", photos, folder / "two", f"{i}/2") for i in (0, 1)]
        for i, share in enumerate(map(last_line, both)):
            found |= of_part(f"shard_{i}", share)
        slowest = max(found["seconds_shard_0"], found["seconds_shard_1"])
        found["photos_per_second_shards"] = args.photos / slowest
        found |= of_part("joined_shards", last_line(start("join", folder / "two")))
    if {"one", "shards"} <= {*args.only}:
        found["ratio"] = found["photos_per_second_shards"] / found["photos_per_second_one"]
    if "ray" in args.only and importlib.util.find_spec("ray"):
        for workers in args.workers:
            by = figures_of_ray(start("ray", photos, folder / f"ray_{workers}", workers))
            rate = args.photos / by["seconds"]
            found |= of_part(f"ray_{workers}", by, photos_per_second=rate)
    if "rows" in args.only:
        write_rows(folder / "rows", args.rows)
        found |= of_part("joined_rows", last_line(start("join", folder / "rows")), rows=args.rows)
    if "listing" in args.only:
        listed = last_line(start("list", folder, args.listed, f"0/{args.shards}"))
        found |= of_part("listing", listed, names=args.listed, kept=listed["photos"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--listed", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="of Ray")
    parser.add_argument("--side", type=int, default=64, help="of a photo, pixels")
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--part", nargs="*", help=argparse.SUPPRESS)  # what a process is to do
    args = parser.parse_args()
    if args.part:
        what, *places = args.part
        run = {"score": score, "ray": score_by_ray, "join": join, "list": list_share}[what]
        return run(*places)
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as name:
        found = measure(args, Path(name))
    for key, value in found.items():
        print(f"{key}: {value:,.2f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
