"""What one process for many categories saves against a process for each, and who finds theirs.

    python -m benchmarks.shared_networks --config=patchcore --number=30
    python -m benchmarks.shared_networks --config=mvtec_small --number=30
    python -m benchmarks.shared_networks --workdir=runs/all

Draws so many toy categories and trains them, for one step each where there are steps: neither
memory nor the time to load depends on how good they are. Or takes those of a work directory. A
process loads all categories and scores a photo as each; others do so for one category. Then the
test photos of all categories are told apart by ``--mode=predict``'s rule.

Seconds are the processor's, since the start of Python, with all that is compiled.
"""

import concurrent.futures
import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np
from absl import flags
from PIL import Image

from benchmarks import last_line
from diffad_jax.commands import train
from diffad_jax.config import recipes, stored
from diffad_jax.data import images, layouts, toy
from diffad_jax.inference import products
from diffad_jax.methods.registry import check_config, get_method
from diffad_jax.types import height_width

_ALONE = 2  # categories that are measured in a process of their own
_PHOTOS = {"train/good": 12, "test/good": 4}  # of a category


def main(argv: list[str]) -> None:
    del argv
    with tempfile.TemporaryDirectory() as folder:
        workdir = flags.FLAGS.workdir and Path(flags.FLAGS.workdir).absolute()
        if workdir:
            config = stored.of_workdir(workdir, ())
        else:
            workdir = Path(folder) / "work"
            config = train_toys(flags.FLAGS.config, flags.FLAGS.number, Path(folder))
        found = measure(config, workdir)
        found["told"] = told(config, workdir)
    last_line.finish(found, flags.FLAGS.json)


def train_toys(recipe: str, number: int, folder: Path) -> ml_collections.ConfigDict:
    """The config of ``folder / "work"``, whose categories lie in ``folder``."""
    names = [f"toy_{i:02d}" for i in range(number)]
    config = recipes.load(f"{recipe}:{','.join(names)}", "")
    config.data.root, config.data.proportions = str(folder), "square"
    draw(folder, names, max(height_width(config.image_size)))
    for stage in get_method(config).stages(ml_collections.FrozenConfigDict(config)):
        if not stage.fit:
            config[stage.section].steps = 1
            config.shared = True
    check_config(config)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(_train, config, folder / "work").result()
    return config


def _train(config: ml_collections.ConfigDict, workdir: Path) -> None:
    if config.shared:
        train.train_shared(config, workdir, None, train.How())
        return
    for category in config.categories:
        train.train_category(config, workdir / category, category, None)


def draw(root: Path, names: Sequence[str], size: int) -> None:
    """Categories of turned toy photos in other colours, at most 48."""
    numbers = itertools.count()
    photos = {
        part: [toy.render_photo(0, next(numbers), None, size)[0] for _ in range(count)]
        for part, count in _PHOTOS.items()
    }
    looks = itertools.product(range(4), itertools.permutations(range(3)), (False, True))
    for name, (turns, channels, negative) in zip(names, looks, strict=False):
        for part, of_part in photos.items():
            (root / name / part).mkdir(parents=True)
            for i, photo in enumerate(of_part):
                seen = np.rot90(photo, turns)[..., channels]
                seen = 255 - seen if negative else seen
                Image.fromarray(np.ascontiguousarray(seen)).save(root / name / part / f"{i}.png")


def measure(config: ml_collections.ConfigDict, workdir: Path) -> dict[str, float]:
    """Of one process for all categories, and of as many processes as there are categories."""
    names, context = config.categories, multiprocessing.get_context("spawn")
    found: dict[str, float] = {"categories": len(names)}
    runs = []
    for chosen in (names, *((name,) for name in names[:_ALONE])):
        one = config.copy_and_resolve_references()
        one.categories = tuple(chosen)
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            runs.append(pool.submit(ready, one, workdir).result())
        print(f"{len(chosen)} of {len(names)} categories: {runs[-1]}")
    together, *alone = runs
    for key in together:
        found[f"together_{key}"] = together[key]
        found[f"apart_{key}"] = len(names) * statistics.median(run[key] for run in alone)
    return found


def ready(config: ml_collections.ConfigDict, workdir: Path) -> dict[str, float]:
    """What it takes until a photo has been scored as each category."""
    jax.config.update("jax_enable_compilation_cache", False)
    detectors = products.load(config, workdir)
    loaded = time.process_time()
    photo = np.zeros((1, *height_width(config.image_size), 3), np.uint8)
    for detector in detectors.values():
        detector.predict_all(photo, 1)
    status = Path("/proc/self/status").read_text()
    return {
        "loaded_seconds": round(loaded, 1),
        "ready_seconds": round(time.process_time(), 1),
        "process_mib": round(int(status.partition("VmRSS:")[2].split()[0]) / 2**10),
        "weights_mib": round(sum(x.nbytes for x in jax.live_arrays()) / 2**20, 1),
    }


def told(config: ml_collections.ConfigDict, workdir: Path) -> dict[str, int]:
    """Of the good and the anomalous test photos of all categories: how many find theirs."""
    if get_method(config).tell(ml_collections.FrozenConfigDict(config)) is None:
        return {}
    telling = products.of_workdir(config, workdir)
    counts = {"photos": 0, "right": 0, "as_another": 0, "as_none": 0}
    for category in config.categories:
        records = layouts.read_category(config.data.root, category, config.data.layout)
        paths = [r.file for r in records if r.split == "test"]
        seen = telling.detectors[category].config
        pixels, _, _ = images.read_images(paths, seen.image_size, images.rules(seen.data))
        names = [telling.nearest(row) for row in telling.distances(pixels)]
        counts["photos"] += len(names)
        counts["right"] += names.count(category)
        counts["as_none"] += names.count("")
        counts["as_another"] += len(names) - names.count(category) - names.count("")
        print(category, {name: names.count(name) for name in sorted(set(names))})
    return counts


if __name__ == "__main__":
    flags.DEFINE_string("config", "patchcore", "A recipe, of the toy categories.")
    flags.DEFINE_integer("number", 30, "Toy categories.", 2, 48)
    flags.DEFINE_string("workdir", None, "Of several trained categories, in place of toys.")
    flags.DEFINE_string("json", None, "Gets the metrics, too.")
    last_line.run(main)
