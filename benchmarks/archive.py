"""What scoring an archive costs besides scoring: listing, decoding, tables, joining of shards.

    python -m benchmarks.archive --photos=100000 --rows=1000000

The photos are hard links to one, the detector is a stand-in that costs nothing. One process scores
them, then two shards side by side, whose tables are joined. Then tables of ``--rows`` rows that two
shards would have left are joined. The last line is one JSON object; ``ratio`` is the rate of two
shards over that of one process.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ml_collections
import numpy as np
from PIL import Image

from configs import mvtec_small
from diffad_jax.commands import predict
from diffad_jax.inference import shards, sources
from diffad_jax.inference.calibration import Calibration
from diffad_jax.types import Prediction


class Free:
    """A detector that costs nothing."""

    weights_hash, taken = "stand-in", None

    def __init__(self, config: ml_collections.ConfigDict):
        self.config = ml_collections.FrozenConfigDict(config)

    def predict_all(self, photos: np.ndarray, batch_size: int) -> Prediction:
        maps = np.zeros(photos.shape[:3], np.float32)
        return Prediction(maps.max((1, 2)), maps, None, None)


def score(folder: Path, output: Path, shard: str) -> None:
    """In a process of its own; prints seconds and memory."""
    config = mvtec_small.get_config("parts")
    config.image_size, config.normal_level.floor = 64, 0.0
    config.evaluation.batch_size = 32
    predict.Detector.from_workdir = lambda config, *_: Free(config)
    predict.load_or_choose = lambda *_: Calibration(
        0.5, (0.0, 1.0), 0.05, 20, 1, pixel_threshold=0.5
    )
    begun = time.perf_counter()
    listed = len(sources.list_photos(folder, output).photos)
    listing = time.perf_counter() - begun
    begun = time.perf_counter()
    how = predict.How(save=(), shard=shards.parse(shard) if shard else None)
    predict.predict_photos(config, output, folder, output, how)
    report(photos=listed, listing_seconds=listing, seconds=time.perf_counter() - begun)


def join(output: Path) -> None:
    """In a process of its own."""
    config = mvtec_small.get_config("parts")
    begun = time.perf_counter()
    predict.merge(config, output)
    report(seconds=time.perf_counter() - begun)


def report(**figures: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    print(json.dumps(figures | {"peak_memory_mib": used.ru_maxrss / 1024, "cpu_seconds": cpu}))


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.archive", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )  # its progress would be shown


def last_line(process: subprocess.Popen) -> dict[str, float]:
    said = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{process.args} failed")
    return json.loads(said.splitlines()[-1])


def write_rows(output: Path, count: int) -> None:
    """Tables of two finished shards, whose rows are those of the first photo there."""
    row = next(iter(predict.writer.read_rows(output)))[1]
    for shard in (shards.Shard(0, 2), shards.Shard(1, 2)):
        folder = shard.folder(output / "rows")
        folder.mkdir(parents=True)
        with (folder / "predictions.jsonl").open("w") as file:
            for i in range(shard.index, count, 2):
                named = {"name": f"{i:08d}.png", "file": f"/archive/{i:08d}.png"}
                file.write(json.dumps(row | named | {"score": i / count}) + "\n")
        (folder / "finished.json").write_text("{}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--side", type=int, default=64, help="of a photo, pixels")
    parser.add_argument("--part", nargs="*", help=argparse.SUPPRESS)  # what a process is to do
    args = parser.parse_args()
    if args.part:
        what, *places = args.part
        return join(Path(*places)) if what == "join" else score(*map(Path, places), what[5:])
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as name:
        photos, one, two = (Path(name, part) for part in ("photos", "one", "two"))
        photos.mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (args.side, args.side, 3))
        Image.fromarray(noise.astype(np.uint8)).save(Path(name, "photo.png"))
        for i in range(args.photos):
            os.link(Path(name, "photo.png"), photos / f"{i:08d}.png")
        alone = last_line(start("--part", "score", photos, one))
        both = [start("--part", f"score{i}/2", photos, two) for i in (0, 1)]
        shares = [last_line(process) for process in both]
        joined = last_line(start("--part", "join", two))
        write_rows(one, args.rows)
        rows = last_line(start("--part", "join", one / "rows"))
    slowest = max(share["seconds"] for share in shares)
    found = {
        "ratio": alone["seconds"] / slowest,
        "photos_per_second_one_process": args.photos / alone["seconds"],
        "photos_per_second_two_shards": args.photos / slowest,
        "cpu_seconds_one_process": alone["cpu_seconds"],
        "cpu_seconds_two_shards": sum(share["cpu_seconds"] for share in shares),
        "listing_seconds": alone["listing_seconds"],
        "joining_seconds": joined["seconds"],
        "peak_memory_mib_one_process": alone["peak_memory_mib"],
        "peak_memory_mib_a_shard": max(share["peak_memory_mib"] for share in shares),
        "rows": args.rows,
        "joining_rows_seconds": rows["seconds"],
        "joining_rows_cpu_seconds": rows["cpu_seconds"],
        "joining_rows_peak_memory_mib": rows["peak_memory_mib"],
    }
    for key, value in found.items():
        print(f"{key}: {value:,.2f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
