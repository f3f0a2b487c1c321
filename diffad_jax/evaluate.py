"""Figures of a trained detector on the test photos; needs no TensorFlow."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from diffad_jax import threshold
from diffad_jax.data import images, layouts
from diffad_jax.detector import Detector
from diffad_jax.evaluation import pictures, ranking, tables
from diffad_jax.types import Prediction

_CASES = 3  # best, median and worst photos of either class on the contact sheet


@dataclasses.dataclass(frozen=True)
class TestSet:
    """n test photos of one category."""

    records: list[layouts.Record]
    photos: np.ndarray  # [n, s, s, 3] uint8
    labels: np.ndarray  # [n] bool: anomalous
    masks: np.ndarray | None  # [n, s, s] bool; None where a defect photo has no ground truth


def evaluate(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Evaluates every category; prints one table and writes metrics.json and contact sheets.

    Raises:
      checkpoint.CheckpointError: a category is not trained.
      layouts.DataError: a category is missing.
      images.ImageError: a test photo or mask is unreadable; they are never skipped.
    """
    started = time.monotonic()
    figures, extras = {}, {}
    for category in config.categories:
        figures[category], extras[category] = evaluate_category(config, workdir, category)
        print(f"{category}: contact sheet in {workdir / category / 'contact_sheet.png'}")
    print("\n" + tables.table(figures))
    tables.write_metrics(
        workdir / "metrics.json",
        figures,
        extras,
        json.loads(config.to_json_best_effort()),
        time.monotonic() - started,
    )
    print(f"\nfigures in {workdir / 'metrics.json'}")


def evaluate_category(
    config: ml_collections.ConfigDict, workdir: Path, category: str
) -> tuple[dict[str, ranking.Figure], dict[str, Any]]:
    """The figures of one category, and the counts and threshold that belong beside them."""
    test = read_test_set(config, category)
    detector = Detector.from_workdir(config, workdir, category)
    limit = threshold.load_or_choose(config, workdir, category, detector)
    extras: dict[str, Any] = {
        "num_normal": int(np.sum(~test.labels)),
        "num_anomalous": int(np.sum(test.labels)),
        "mask_rule": config.evaluation.mask_rule,
        "threshold": limit,
    }
    if not test.records:
        empty = np.zeros(0, bool)
        none = ranking.image_figures(empty, empty.astype(float))
        return none | ranking.pixel_figures(empty, empty.astype(float)), extras
    predicted = detector.predict_all(test.photos, config.evaluation.batch_size)
    figures = ranking.image_figures(test.labels, predicted.score)
    figures |= ranking.pixel_figures(test.masks, predicted.anomaly_map)
    _write_contact_sheet(
        workdir / category / "contact_sheet.png", test, predicted, config.reconstruction
    )
    return figures, extras


def read_test_set(config: ml_collections.ConfigDict, category: str) -> TestSet:
    """Decodes the test photos and their masks; normal photos have an empty mask."""
    c, size = config.data, config.image_size
    records = [r for r in layouts.read_category(c.root, category, c.layout) if r.split == "test"]
    labels = np.array([r.is_anomalous for r in records], bool)
    if not records:
        return TestSet([], np.zeros((0, size, size, 3), np.uint8), labels, None)
    photos, _, _ = images.read_images([r.file for r in records], size, c.resize)
    if any(r.is_anomalous and r.mask is None for r in records):
        return TestSet(records, photos, labels, None)
    masks = np.zeros((len(records), size, size), bool)
    for i, r in enumerate(records):
        if r.mask is not None:
            masks[i] = images.read_mask(
                r.mask, size, config.evaluation.mask_rule, images.photo_size(r.file)
            )
    return TestSet(records, photos, labels, masks)


def _write_contact_sheet(
    path: Path, test: TestSet, predicted: Prediction, settings: ml_collections.ConfigDict
) -> None:
    mixed = [f"interpolated {weight:g}" for weight in settings.interpolation]
    columns = ("input", "reconstruction", *mixed, "anomaly map", "ground truth")
    rows = []
    for what, i in pictures.pick_cases(test.labels, predicted.score, _CASES):
        record = test.records[i]
        truth = np.zeros(test.photos.shape[1:3]) if test.masks is None else test.masks[i]
        tiles = [
            test.photos[i],
            pictures.to_bytes(predicted.reconstruction[i]),
            *map(pictures.to_bytes, predicted.interpolated[i]),
            pictures.heat_map(predicted.anomaly_map[i]),
            np.repeat(np.uint8(255 * truth)[..., None], 3, axis=-1),
        ]
        if test.masks is None:
            tiles.pop()
        name = Path(record.file).name
        caption = f"{what}: {record.defect_type}/{name}, score {predicted.score[i]:.3f}"
        rows.append(pictures.Row(caption, tiles))
    pictures.contact_sheet(path, columns, rows)
