"""Whether reading ahead hides a bucket's latency: photos/s of prediction against local files.

    python -m benchmarks.storage --photos=400 --milliseconds=50

Each request to the stand-in for a bucket, which is in memory, waits so long; a photo takes two, one
for its size and one for its content. The detector is a stand-in, too, and takes ``--device_ms`` for
a batch of 16. Photos are noise of ``--side`` pixels in PNG. The last line is one JSON object;
``ratio`` is the rate from the bucket over the local one, the best of ``--runs`` of each.
"""

import argparse
import io
import json
import tempfile
import time
from pathlib import Path

import fsspec
import ml_collections
import numpy as np
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from configs import mvtec_small
from diffad_jax.inference import batching, sources
from diffad_jax.types import Prediction


class Bucket(MemoryFileSystem):
    """As s3fs, but in memory and slow."""

    protocol = ("s3",)
    store: dict = {}
    pseudo_dirs = [""]
    seconds = 0.0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("s3://"))

    def info(self, path: str, **kwargs) -> dict:
        time.sleep(self.seconds)
        return super().info(path, **kwargs)

    def _open(self, path: str, *args, **kwargs):
        time.sleep(self.seconds)
        return super()._open(path, *args, **kwargs)


class Waiting:
    """A detector that takes its time, but no processor's."""

    def __init__(self, config: ml_collections.ConfigDict, seconds: float):
        self.config, self._seconds = ml_collections.FrozenConfigDict(config), seconds

    def predict_all(self, photos: np.ndarray, batch_size: int) -> Prediction:
        time.sleep(self._seconds)
        maps = np.zeros(photos.shape[:3], np.float32)
        return Prediction(maps.max((1, 2)), maps, None, None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--milliseconds", type=float, default=50.0, help="of a request")
    parser.add_argument("--device_ms", type=float, default=100.0, help="of a batch of 16")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    fsspec.register_implementation("s3", Bucket, clobber=True)
    config = mvtec_small.get_config("none")
    config.evaluation.batch_size = 16
    detector = Waiting(config, args.device_ms / 1e3)
    rng, bucket, found = np.random.default_rng(0), Bucket(), {"local": 0.0, "bucket": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.photos):
            file, shape = io.BytesIO(), (args.side, args.side, 3)
            Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(file, "PNG")
            Path(folder, f"{i:05d}.png").write_bytes(file.getvalue())
            bucket.pipe(f"s3://photos/{i:05d}.png", file.getvalue())
        Bucket.seconds = args.milliseconds / 1e3
        for _ in range(args.runs):
            for name, source in (("local", folder), ("bucket", "s3://photos")):
                paths = [p.path for p in sources.list_photos(source, Path("out")).photos]
                begun = time.perf_counter()
                scored = sum(map(len, batching.score_photos(detector, paths, tile=False)))
                rate = scored / (time.perf_counter() - begun)
                assert scored == args.photos
                found[name] = max(found[name], rate)
    for name, rate in found.items():
        print(f"{name}: {rate:.0f} photos/s")
    print(
        json.dumps(
            {
                "ratio": found["bucket"] / found["local"],
                "photos_per_second_from_bucket": found["bucket"],
                "photos_per_second_local": found["local"],
                "milliseconds_a_request": args.milliseconds,
            }
        )
    )


if __name__ == "__main__":
    main()
