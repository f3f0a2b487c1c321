"""Exported formats against ``predict``: differences, size, load time and latency.

    python -m benchmarks.export --workdir=runs/small

Every format is exported to a temporary folder and run in this process on the category's test
photos. Rounds are interleaved: each times every format once. ``ratio`` is a format's time of the
processor to that of ``predict``; ``taskset -c 1`` gives it for one core. The last line is one JSON
object.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import flags

from benchmarks import last_line
from diffad_jax.config import stored
from diffad_jax.data import images, layouts
from diffad_jax.export import artifact, exporter, registry
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import check_config

FORMATS = ("stablehlo", "saved_model", "onnx", "openvino")


def main(_) -> None:
    workdir = Path(flags.FLAGS.workdir)
    config = stored.of_workdir(workdir, [])
    check_config(config)
    category = config.categories[0]
    records = layouts.read_category(config.data.root, category, config.data.layout)
    files = [r.file for r in records if r.split == "test"]
    chosen = np.linspace(0, len(files) - 1, flags.FLAGS.photos).astype(int)
    files = [files[i] for i in dict.fromkeys(chosen.tolist())]
    photos, _, _ = images.read_images(files, config.image_size, images.rules(config.data))
    detector = Detector.from_workdir(config, workdir, category)
    limit = load_or_choose(config, workdir, category, detector).threshold
    wanted = detector.predict_all(photos, flags.FLAGS.batch)
    report = {"photos": len(files), "threshold": limit}
    report["largest_score"] = float(wanted.score.max())
    report["anomalous"] = int((wanted.score > limit).sum())
    report["nearest_score_to_threshold"] = float(np.abs(wanted.score - limit).min())
    detect = {"predict": lambda image: jax.device_get(detector.predict(image).score)}
    with tempfile.TemporaryDirectory() as root:
        for name in FORMATS:
            report[name], run = _export(config, workdir, Path(root) / name, name)
            detect[name] = lambda image, run=run: run(image)["score"]
            found = [
                run(photos[i : i + flags.FLAGS.batch])
                for i in range(0, len(files), flags.FLAGS.batch)
            ]
            report[name] |= _differences(wanted, limit, found, report[name]["threshold"])
            if name == "saved_model":
                folder = Path(root) / name / category
                report["saved_model_bytes"] = _from_bytes(folder, files, wanted, limit)
        exporter.export(config, workdir, Path(root) / "safetensors", "safetensors")
        report["safetensors"] = {"mib": _mib(Path(root) / "safetensors" / category)}
    for size in (1, flags.FLAGS.batch):
        timed = _time(detect, photos[:size])
        for name, seconds in timed.items():
            metrics = report.setdefault(name, {})
            for kind, values in zip(("", "_processor"), zip(*seconds, strict=True), strict=True):
                metrics[f"batch_{size}{kind}_median_ms"] = 1000 * float(np.median(values))
                metrics[f"batch_{size}{kind}_best_ms"] = 1000 * min(values)
            key = f"batch_{size}_processor_median_ms"
            metrics[f"batch_{size}_ratio"] = metrics[key] / report["predict"][key]
    for name, metrics in report.items():
        print(name, metrics)
    print(json.dumps(report))


def _export(config, workdir: Path, output: Path, name: str):
    """Metrics of the export, and the loaded graph."""
    started = time.perf_counter()
    exporter.export(config, workdir, output, name)
    exported = time.perf_counter()
    folder = output / config.categories[0]
    card = artifact.read_card(folder)
    run = registry.load(folder, card)
    metrics = {"mib": _mib(folder), "export_seconds": exported - started}
    metrics["load_seconds"] = time.perf_counter() - exported  # with the checksums
    metrics["threshold"] = card["threshold"]["value"]
    return metrics, lambda image: run(image, card["seed"])


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def _differences(wanted, limit: float, found: list[dict], its: float) -> dict[str, float]:
    """``limit`` and ``its`` are the thresholds of what is wanted and found."""
    score = np.concatenate([f["score"] for f in found])
    anomaly_map = np.concatenate([f["anomaly_map"] for f in found])
    return {
        "max_score_difference": float(np.abs(score - wanted.score).max()),
        "max_map_difference": float(np.abs(anomaly_map - wanted.anomaly_map).max()),
        "verdicts_that_differ": int(((score > its) != (wanted.score > limit)).sum()),
    }


def _from_bytes(folder: Path, files: list[str], wanted, limit: float) -> dict[str, float]:
    """The signature that decodes and resizes whole files by itself."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder / "1"))
    data = tf.constant([Path(file).read_bytes() for file in files])
    found = model.signatures["serving_default"](image_bytes=data)
    return _differences(wanted, limit, [{k: v.numpy() for k, v in found.items()}], limit)


def _time(detect: dict[str, Callable], image: np.ndarray) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each call by the clock and of the processor, after one that compiles."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in detect}
    for run in detect.values():
        run(image)
    for _ in range(flags.FLAGS.rounds):
        for name, run in detect.items():
            started, busy = time.perf_counter(), time.process_time()
            run(image)
            seconds[name].append((time.perf_counter() - started, time.process_time() - busy))
    return seconds


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Of one trained category.", required=True)
    flags.DEFINE_integer("photos", 50, "Test photos, evenly spaced.")
    flags.DEFINE_integer("rounds", 10, "Of timing.")
    flags.DEFINE_integer("batch", 8, "Photos of the larger batch that is timed.")
    last_line.run(main)
