"""How fast a trained detector is on this machine, and where its time goes."""

import functools
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from diffad_jax.commands import exported_folder
from diffad_jax.data.listing import expanded
from diffad_jax.errors import ConfigError
from diffad_jax.evaluation import earlier
from diffad_jax.evaluation.metrics_file import versions
from diffad_jax.export import artifact, registry
from diffad_jax.inference import detector
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import console
from diffad_jax.runtime.files import write_whole
from diffad_jax.types import height_width, to_float

_PERCENTILES = (50, 90, 99)
_WARM_UPS = 2  # after the call that compiles


def benchmark(
    config: ml_collections.ConfigDict,
    workdir: Path,
    num_runs: int,
    overwrite: bool = False,
    compare: Sequence[str] = (),
) -> None:
    """Times the detector of every category at one photo and at ``config.evaluation.batch_size``.

    Prints a table for each and writes ``benchmark.json``. An earlier file of another config or of
    other weights is kept, unless ``overwrite`` is given. Photos are noise, because their content
    does not change the time. "Whole" is what a user waits for, from pixels in memory to a score and
    a map in memory; no file is read. The parts are compiled apart, so their sum may differ from it.
    DiffAD's "score" includes the distances to normal patches. Exported folders that ``compare``
    names take turns with them, and do the same as "whole".

    Raises:
      checkpoint.CheckpointError: a category is not trained.
      ConfigError: an exported folder lacks a category, is of other weights, or cannot be run.
    """
    height, width = height_width(config.image_size)
    sizes = {"latency": 1, "throughput": config.evaluation.batch_size}
    found: dict[str, Any] = {}
    console.say(f"{_device()['kind']}, {num_runs} runs of each, {width} × {height} pixels")
    for category in config.categories:
        trained = detector.Detector.from_workdir(config, workdir, category)
        found[category] = {"weights": trained.weights_hash}
        graphs = dict(_graph(Path(expanded(folder)), category, trained) for folder in compare)
        for name, batch_size in sizes.items():
            found[category][name] = measure(trained, batch_size, num_runs, graphs)
            console.say("\n" + as_text(f"{category}, {name}", found[category][name]))
    content = {
        "categories": found,
        "device": _device(),
        "versions": versions(),
        "config": earlier.as_json(config),
    }
    if not overwrite:
        made_by = {category: found[category]["weights"] for category in found}
        earlier.keep(workdir / "benchmark.json", (), content["config"], made_by)
    write_whole(workdir / "benchmark.json", json.dumps(content, indent=2) + "\n")
    console.say(f"\nall metrics in {workdir / 'benchmark.json'}")


def _graph(
    exported: Path, category: str, trained: detector.Detector
) -> tuple[str, Callable[[np.ndarray], Any]]:
    """The name of an exported graph, and what runs it."""
    if (folder := registry.exported(exported).get(category)) is None:
        raise ConfigError(f"--compare={exported}: no exported {category} is there")
    with exported_folder.damage_told():
        card = artifact.read_card(folder)
        run = registry.load(folder, card)
    if card["weights"] != trained.weights_hash:
        raise ConfigError(f"--compare={exported}: it is of other weights: export {category} again")
    words = [card["format"], (card.get("quantization") or {}).get("dtype", "")]
    return " ".join(words).strip(), functools.partial(run, seed=card["seed"])


def measure(
    trained: detector.Detector,
    batch_size: int,
    num_runs: int,
    graphs: Mapping[str, Callable[[np.ndarray], Any]],
) -> dict[str, Any]:
    """Milliseconds of a batch, whole, by part and by ``graphs``, in turns; and photos a second."""
    config, weights = trained.config, trained.weights
    size = height_width(config.image_size)
    rng = np.random.default_rng(config.seed)
    photos = rng.integers(0, 256, (batch_size, *size, 3), np.uint8)
    compiled = parts(config)
    taken: dict[str, list[float]] = {name: [] for name in ("whole", *compiled, *graphs)}
    first: dict[str, float] = {}
    difference = 0.0
    for i in range(1 + _WARM_UPS + num_runs):
        ms: dict[str, float] = {}
        whole = _timed(ms, "whole", trained.predict_all, photos, batch_size)
        if compiled:
            value = jax.block_until_ready(to_float(photos))
            for name, part in compiled.items():
                value = _timed(ms, name, part, weights, value)
            difference = max(difference, float(np.abs(value.score - whole.score).max()))
        for name, graph in graphs.items():
            _timed(ms, name, graph, photos)
        if i == 0:
            first = ms
        if i > _WARM_UPS:
            for name, value in ms.items():
                taken[name].append(value)
    return {
        "batch_size": batch_size,
        "runs": num_runs,
        "images_per_second": 1e3 * batch_size / float(np.median(taken["whole"])),
        "milliseconds": {
            name: {f"p{p}": float(np.percentile(values, p)) for p in _PERCENTILES}
            for name, values in taken.items()
        },
        "first_call_milliseconds": first,
        "parts_score_difference": difference,
        "parts": [*compiled],
    }


def parts(config: ml_collections.FrozenConfigDict) -> dict[str, Callable]:
    """The compiled parts of ``predict``, by name: (weights, value) -> value, see ``Method``."""
    return {
        name: jax.jit(functools.partial(part, seed=config.seed, config=config))
        for name, part in get_method(config).parts
    }


def as_text(title: str, found: dict[str, Any]) -> str:
    """The table of one measurement."""
    medians = {name: ms["p50"] for name, ms in found["milliseconds"].items()}
    total = sum(medians[name] for name in found["parts"])
    header = [f"p{p} ms" for p in _PERCENTILES]
    lines = [f"{title}: batch {found['batch_size']}, {found['images_per_second']:.3g} images/s"]
    lines.append(f"{'':12}{''.join(f'{h:>10}' for h in header)}{'share':>8}{'first ms':>12}")
    for name, ms in found["milliseconds"].items():
        cells = "".join(f"{value:10.1f}" for value in ms.values())
        share = f"{100 * medians[name] / total:6.0f} %" if name in found["parts"] else " " * 8
        lines.append(f"{name:12}{cells}{share}{found['first_call_milliseconds'][name]:12.0f}")
    if total:
        difference = found["parts_score_difference"]
        lines.append(f"scores of the parts and of the whole differ by {difference:.1g}")
    return "\n".join(lines)


def _timed(milliseconds: dict[str, float], name: str, run: Callable, *args) -> Any:
    started = time.perf_counter()
    result = jax.block_until_ready(run(*args))
    milliseconds[name] = 1e3 * (time.perf_counter() - started)
    return result


def _device() -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "count": jax.device_count(),
        "cpu_cores": os.cpu_count(),
        "machine": platform.machine(),
    }
