"""Graphs in 8 bits: the photos that give their ranges, and their comparison with the detector."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from diffad_jax.data import images, layouts, split
from diffad_jax.evaluation import ranking, stand_in
from diffad_jax.export.contract import Format
from diffad_jax.export.errors import ExportError
from diffad_jax.export.exported import ExportedDetector
from diffad_jax.export.graph import Model
from diffad_jax.inference import batching
from diffad_jax.inference.calibration import Calibration
from diffad_jax.inference.detector import Detector
from diffad_jax.training.held_out import load_split

REPORT = "quantization.json"
HELD_OUT, DRAWN, TEST = "held out", "drawn defect", "test"
_MOST_PHOTOS = 64  # that give the ranges of activations
_ROUNDS = 5  # of timing


class Judged(NamedTuple):
    """A model that scores photos, and its threshold."""

    detector: Detector | ExportedDetector
    calibration: Calibration


def photos_of_ranges(config: ml_collections.ConfigDict, workdir: Path, category: str) -> np.ndarray:
    """Held-out normal photos, evenly chosen: [n, h, w, 3] uint8.

    Raises:
      ExportError: none was held out.
      layouts.DataError: they are gone, or have changed.
    """
    held_out = load_split(config, workdir / category, category).held_out
    if not held_out:
        raise ExportError(
            "--quantize=int8 needs held-out normal photos, for the ranges of 8 bits: train on your "
            "photos, or export without it"
        )
    paths = split.paths(config, held_out)
    chosen = paths[:: -(-len(paths) // _MOST_PHOTOS)]
    rules, on_bad_image = images.rules(config.data), config.data.on_bad_image
    return images.read_images(chosen, config.image_size, rules, on_bad_image)[0]


def compare(
    config: ml_collections.ConfigDict, workdir: Path, category: str, before: Judged, after: Judged
) -> dict[str, Any]:
    """Results of a detector and of its graph in 8 bits on the same photos, as JSON.

    The photos are all held-out ones, defects drawn on some of them, and test photos if there are
    any.

    Raises:
      ExportError: there is no threshold, so there are no verdicts to compare.
    """
    limits = (before.calibration.threshold, after.calibration.threshold)
    if limits[0] is None or limits[1] is None:
        why = before.calibration.why_no_threshold
        raise ExportError(f"--quantize=int8 compares verdicts, and there are none: {why}")
    drawn, no_drawn = _drawn(config, workdir, category, before, after)
    photos = [*_held_out(before, after), *drawn, *_test(config, category, before, after)]
    for photo in photos:
        verdicts = [photo[key] > limit for key, limit in zip(("before", "after"), limits,
                                                             strict=True)]  # fmt: skip
        photo["verdict_changes"] = verdicts[0] != verdicts[1]
    changed = sum(photo["verdict_changes"] for photo in photos)
    return {
        "threshold": dict(zip(("before", "after"), limits, strict=True)),
        "verdicts": {"photos": len(photos), "changed": changed, "share": changed / len(photos)},
        "image_auroc": {
            "drawn_defects": _auroc(photos, (HELD_OUT, DRAWN)),
            "test_photos": _auroc(photos, (TEST,)),
        },
        "no_drawn_defects": no_drawn,
        "photos": photos,
    }


def _held_out(before: Judged, after: Judged) -> list[dict[str, Any]]:
    scores = zip(*(j.calibration.held_out_scores for j in (before, after)), strict=True)
    names = before.calibration.held_out_names
    return [_photo(name, HELD_OUT, False, *pair) for name, pair in zip(names, scores, strict=True)]


def _drawn(
    config: ml_collections.ConfigDict, workdir: Path, category: str, before: Judged, after: Judged
) -> tuple[list[dict[str, Any]], str]:
    """The drawn defects of the report; and the reason why there are none, else empty."""
    found = stand_in.run(config, workdir, category, *before)
    labels = found.test.labels
    if found.none_drawn or not labels.any():
        return [], found.none_drawn
    pixels = found.test.photos[labels[: len(found.test.photos)]]
    scores = after.detector.predict_all(pixels, config.evaluation.batch_size).score
    names = [name for name, label in zip(found.test.files, labels, strict=True) if label]
    pairs = zip(names, found.scores[labels], scores, strict=True)
    return [_photo(name, DRAWN, True, *pair) for name, *pair in pairs], ""


def _test(
    config: ml_collections.ConfigDict, category: str, before: Judged, after: Judged
) -> list[dict[str, Any]]:
    records = layouts.read_category(config.data.root, category, config.data.layout)
    labels = {r.file: r.is_anomalous for r in records if r.split == "test"}
    scores: list[dict[str, float]] = []
    for judged in (before, after):
        batches = batching.score_photos(judged.detector, [*labels], tile=False)
        found = (result for batch in batches for result in batch)
        scores.append({r.path: r.score for r in found if isinstance(r, batching.Scored)})
    return [
        _photo(path, TEST, label, *(each[path] for each in scores))
        for path, label in labels.items()
        if path in scores[0]
    ]


def _photo(name: str, kind: str, is_anomalous: bool, before: float, after: float) -> dict:
    scores = {"before": float(before), "after": float(after)}
    return {"name": str(name), "kind": kind, "is_anomalous": bool(is_anomalous), **scores}


def _auroc(photos: list[dict[str, Any]], kinds: tuple[str, ...]) -> dict[str, Any]:
    """Image AUROC before and after; None without photos of both classes."""
    chosen = [photo for photo in photos if photo["kind"] in kinds]
    labels = np.array([photo["is_anomalous"] for photo in chosen], bool)
    return {
        key: ranking.image_metrics(labels, np.array([p[key] for p in chosen]))["image_auroc"].value
        for key in ("before", "after")
    }


def cost(
    written: Format, model: Model, detector: Detector, folder: Path, photos: np.ndarray
) -> dict[str, Any]:
    """MiB, and milliseconds by the clock, of the format's whole graph and of that in ``folder``.

    The graphs are called in turn, on one photo and on ``config.evaluation.batch_size`` photos.
    """
    with tempfile.TemporaryDirectory() as temporary:
        written.write(model, Path(temporary))
        folders = {"before": Path(temporary), "after": folder}
        graphs = {
            k: ExportedDetector.of_graph(detector, written.load, f) for k, f in folders.items()
        }
        report: dict[str, Any] = {"mib": {k: _mib(f) for k, f in folders.items()}}
        for size in (1, model.config.evaluation.batch_size):
            batch = np.resize(photos, (size, *photos.shape[1:]))
            runs = {k: lambda g=g, b=batch: g.detect(b, model.seed) for k, g in graphs.items()}
            report[f"milliseconds_of_{size}"] = _times(runs)
    return report


def _times(runs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median times, after a first call that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(1 + _ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: 1e3 * float(np.median(values[1:])) for name, values in seconds.items()}


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def refuse(report: dict[str, Any], max_changed: float) -> None:
    """Raises ExportError where a larger share of verdicts than ``max_changed`` changes."""
    verdicts = report["verdicts"]
    if verdicts["share"] <= max_changed:
        return
    aurocs = ", ".join(
        f"image AUROC of {name.replace('_', ' ')} {pair['before']:.4f} and then {pair['after']:.4f}"
        for name, pair in report["image_auroc"].items()
        if pair["before"] is not None
    )
    raise ExportError(
        f"8 bits change {verdicts['changed']} of {verdicts['photos']} verdicts, more than "
        f"--max_changed={max_changed:g} allows ({aurocs}): export without --quantize, or allow more"
    )


def write(report: dict[str, Any], folder: Path) -> None:
    """Writes ``quantization.json``."""
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    (folder / REPORT).write_text(text, encoding="utf-8")
