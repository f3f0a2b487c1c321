"""What one set of networks for many categories saves at test, and whether photos find theirs.

    python -m benchmarks.shared_networks --workdir=runs/all --number=30

Loads so many categories (those of the work directory, again and again) once as detectors that share
their networks in memory, once as detectors of their own. Each is done in a process of its own. Then
the test photos of all categories are told apart by ``--mode=predict``'s rule.
"""

import concurrent.futures
import multiprocessing
import tempfile
import time
from pathlib import Path

import jax
import ml_collections
from absl import flags

from benchmarks import last_line
from diffad_jax.config import stored
from diffad_jax.data import images, layouts
from diffad_jax.inference import products
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import SHARED, check_config


def main(argv: list[str]) -> None:
    del argv
    workdir, number = Path(flags.FLAGS.workdir).absolute(), flags.FLAGS.number
    names = flags.FLAGS.categories or stored.categories(workdir)
    config = stored.read(workdir / names[0])
    config.categories = tuple(names)
    check_config(config)
    found = {"categories": number}
    with tempfile.TemporaryDirectory() as folder:
        many = _many(workdir, Path(folder), names, number)
        config.categories = tuple(many)
        for together in (True, False):
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                seconds, mib = pool.submit(load, config, Path(folder), together).result()
            said = "together" if together else "apart"
            found |= {f"load_{said}_seconds": round(seconds, 2), f"load_{said}_mib": round(mib)}
            print(f"{number} categories {said}: {seconds:.1f} s, {mib:.0f} MiB")
    config.categories = tuple(names)
    found["told"] = told(config, workdir)
    last_line.finish(found, flags.FLAGS.json)


def _many(workdir: Path, folder: Path, names: list[str], number: int) -> list[str]:
    """Links to the work directory's categories, as if there were ``number`` of them."""
    (folder / SHARED).symlink_to(workdir / SHARED)
    many = [f"{names[i % len(names)]}_{i:02d}" for i in range(number)]
    for i, name in enumerate(many):
        (folder / name).symlink_to(workdir / names[i % len(names)])
    return many


def load(config: ml_collections.ConfigDict, workdir: Path, together: bool) -> tuple[float, float]:
    """Seconds until all detectors are loaded, and MiB that the process has grown by."""
    before, started = _resident_mib(), time.perf_counter()
    if together:
        detectors = products.load(config, workdir)
    else:
        detectors = {c: Detector.from_workdir(config, workdir, c) for c in config.categories}
    jax.block_until_ready([detector.weights for detector in detectors.values()])
    return time.perf_counter() - started, _resident_mib() - before


def _resident_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 2**10


def told(config: ml_collections.ConfigDict, workdir: Path) -> dict[str, dict[str, int]]:
    """Of each category's test photos: as which product they are told, "" as none."""
    telling, found = products.Products(config, workdir), {}
    for category in config.categories:
        records = layouts.read_category(config.data.root, category, config.data.layout)
        paths = [r.file for r in records if r.split == "test"]
        seen = telling.detectors[category].config
        pixels, _, _ = images.read_images(paths, seen.image_size, images.rules(seen.data))
        names = [telling.nearest(row) for row in telling.distances(pixels)]
        found[category] = {name: names.count(name) for name in sorted(set(names))}
        print(category, found[category])
    return found


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "With shared networks.", required=True)
    flags.DEFINE_list("categories", [], "Of it; none: all.")
    flags.DEFINE_integer("number", 30, "Categories that are loaded.")
    flags.DEFINE_string("json", None, "Gets the metrics, too.")
    last_line.run(main)
