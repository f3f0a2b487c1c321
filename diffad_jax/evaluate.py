"""Figures of a trained detector on the test photos; needs no TensorFlow."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from diffad_jax import evaluate_files, threshold
from diffad_jax.check_config import ConfigError
from diffad_jax.data import images, layouts
from diffad_jax.detector import Detector
from diffad_jax.evaluation import fid, figures, metrics_file, pictures, report, tables
from diffad_jax.evaluation.confusion import confusion
from diffad_jax.evaluation.published import Compare
from diffad_jax.evaluation.ranking import NO_RECONSTRUCTION, Figure
from diffad_jax.models import pretrained
from diffad_jax.types import Prediction

_CASES = 3  # best, median and worst photos of either class on the contact sheet


def evaluate(
    config: ml_collections.ConfigDict, workdir: Path, compare: Compare = Compare.NOTHING
) -> None:
    """Evaluates every category; prints one short table.

    Writes metrics.json, table.md and table.tex, and report.html and a contact sheet for each
    category.

    Raises:
      ConfigError: ``config.evaluation.inception_weights`` does not fit.
      checkpoint.CheckpointError: a category is not trained.
      layouts.DataError: a category is missing.
      images.ImageError: a test photo or mask is unreadable; they are never skipped.
    """
    started = time.monotonic()
    inception = _load_inception(config)
    results = {}
    for category in config.categories:
        results[category] = evaluate_category(config, workdir, category, inception)
        print(f"{category}: {evaluate_files.in_words(results[category])}")
        print(f"{category}: report in {workdir / category / 'report.html'}")
    found = {c: r.findings.figures for c, r in results.items()}
    print("\n" + tables.as_text(tables.figures_table(found, tables.SHORT)))
    print(f"mask rule {evaluate_files.mask_rule(config)}")
    compared = None
    if compare is Compare.PAPER:
        compared = tables.comparison_table(
            found, config.data.layout == "mvtec", evaluate_files.conditions(config)
        )
        print("\n" + tables.as_text(compared))
    evaluate_files.write_tables(config, workdir, results, compared)
    metrics_file.write_metrics(
        workdir / "metrics.json",
        found,
        {c: evaluate_files.extras(config, r) for c, r in results.items()},
        json.loads(config.to_json_best_effort()),
        time.monotonic() - started,
    )
    print(f"\nall figures in {workdir / 'metrics.json'}, table.md and table.tex")


def evaluate_category(
    config: ml_collections.ConfigDict,
    workdir: Path,
    category: str,
    inception: Mapping[str, Any] | None,
) -> evaluate_files.Result:
    """Everything about one category; writes its report and contact sheet.

    Args:
      config: the whole config.
      workdir: holds the category's weights.
      category: its name.
      inception: parameters for FID; None leaves it undefined.
    """
    test = read_test_set(config, category)
    detector = Detector.from_workdir(config, workdir, category)
    chosen = threshold.load_or_choose(config, workdir, category, detector)
    predicted = detector.predict_all(test.photos, config.evaluation.batch_size)
    scores = predicted.score.astype(np.float64)  # exact beside thresholds that are Python floats
    findings = figures.find(
        test, scores, predicted.anomaly_map, predicted.reconstruction, config.seed
    )
    findings.figures.update(_fid(config, category, predicted.reconstruction, inception))
    verdicts = [(v, confusion(test.labels, scores, v.value)) for v in _thresholds(chosen, findings)]
    columns = _repaired(config, predicted)
    limits = threshold.load_map_range(config, workdir, category, detector)
    content = report.Content(
        category=category,
        test=test,
        findings=findings,
        scores=scores,
        maps=predicted.anomaly_map,
        map_range=limits,
        columns=columns,
        thresholds=[v for v, _ in verdicts],
        settings=evaluate_files.settings(config, chosen, limits),
    )
    report.write_report(workdir / category / "report.html", content)
    if test.files:
        path = workdir / category / "contact_sheet.png"
        _write_contact_sheet(path, test, predicted, columns, limits)
    return evaluate_files.Result(test.labels, test.defect_types, findings, chosen, verdicts)


def read_test_set(config: ml_collections.ConfigDict, category: str) -> figures.TestSet:
    """Decodes the test photos and their masks; normal photos have an empty mask."""
    c, size = config.data, config.image_size
    records = [r for r in layouts.read_category(c.root, category, c.layout) if r.split == "test"]
    photos, masks = np.zeros((len(records), size, size, 3), np.uint8), None
    if records:
        photos, _, _ = images.read_images([r.file for r in records], size, c.resize)
    if not any(r.is_anomalous and r.mask is None for r in records):
        masks = np.zeros((len(records), size, size), bool)
        rule = config.evaluation.mask_rule
        for i, r in enumerate(records):
            if r.mask is not None:
                masks[i] = images.read_mask(r.mask, size, rule, images.photo_size(r.file))
    return figures.TestSet(
        files=[r.file for r in records],
        defect_types=[r.defect_type for r in records],
        labels=np.array([r.is_anomalous for r in records], bool),
        photos=photos,
        masks=masks,
    )


def _repaired(config: ml_collections.ConfigDict, predicted: Prediction) -> dict[str, np.ndarray]:
    """{title: [n, s, s, 3]} of what the method makes of the photos."""
    columns = {}
    if predicted.reconstruction is not None:
        columns["reconstruction"] = predicted.reconstruction
    if predicted.interpolated is not None:
        for i, weight in enumerate(config.reconstruction.interpolation):
            columns[f"interpolated {weight:g}"] = predicted.interpolated[:, i]
    return columns


def _thresholds(
    chosen: threshold.Threshold | None, findings: figures.Findings
) -> list[report.Verdict]:
    found = []
    if chosen is not None:
        chosen_on = f"{chosen.num_held_out_normal} held-out normal photos"
        found.append(report.Verdict("held-out normal photos", chosen.value, chosen_on, False))
    if (best := findings.f1_max_thresholds["image_f1_max"]) is not None:
        # F1-max counts a photo at its threshold as anomalous, a verdict only one above it.
        below = math.nextafter(best, -math.inf)
        found.append(report.Verdict("F1-max", below, evaluate_files.TEST_LABELS, True))
    return found


def _load_inception(config: ml_collections.ConfigDict) -> dict[str, Any] | None:
    c = config.evaluation
    if not c.inception_weights:
        return None
    try:
        return pretrained.load_inception(c.inception_weights, (fid.LAYERS[c.fid_dimension],))
    except (OSError, ValueError) as error:
        raise ConfigError(f"config.evaluation.inception_weights: {error}") from error


def _fid(
    config: ml_collections.ConfigDict,
    category: str,
    reconstructions: np.ndarray | None,
    inception: Mapping[str, Any] | None,
) -> dict[str, Figure]:
    """Of the reconstructions against the normal photos that training saw."""
    dimension, size = config.evaluation.fid_dimension, config.evaluation.batch_size
    if reconstructions is None:
        return fid.no_fid(dimension, NO_RECONSTRUCTION)
    if inception is None:
        return fid.no_fid(dimension, fid.NO_WEIGHTS)
    c = config.data
    files = [r.file for r in layouts.normal_photos(config, category)[0]]
    photos, _, _ = images.read_images(files, config.image_size, c.resize, c.on_bad_image)
    batches = (np.divide(photos[i : i + size], 255.0, dtype=np.float32)
               for i in range(0, len(photos), size))  # fmt: skip
    repaired = (reconstructions[i : i + size] for i in range(0, len(reconstructions), size))
    return fid.fid(
        fid.image_statistics(repaired, inception, dimension),
        fid.image_statistics(batches, inception, dimension),
    )


def _write_contact_sheet(
    path: Path,
    test: figures.TestSet,
    predicted: Prediction,
    repaired: Mapping[str, np.ndarray],
    limits: tuple[float, float],
) -> None:
    columns = ("input", *repaired, "anomaly map", "ground truth")
    rows = []
    for what, i in pictures.pick_cases(test.labels, predicted.score, _CASES):
        tiles = [
            test.photos[i],
            *(pictures.to_bytes(column[i]) for column in repaired.values()),
            pictures.heat_map(predicted.anomaly_map[i], limits),
        ]
        if test.masks is not None:
            tiles.append(np.repeat(np.uint8(255 * test.masks[i])[..., None], 3, axis=-1))
        name = f"{test.defect_types[i]}/{Path(test.files[i]).name}"
        rows.append(pictures.Row(f"{what}: {name}, score {predicted.score[i]:.4g}", tiles))
    pictures.contact_sheet(path, columns, rows)
