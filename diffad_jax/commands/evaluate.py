"""Metrics of a trained detector on the test photos; needs no TensorFlow."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from diffad_jax.data import bit_depth, corrections, layouts, pictures, split
from diffad_jax.data.listing import expanded
from diffad_jax.errors import ConfigError
from diffad_jax.evaluation import (
    comparison,
    cost,
    earlier,
    fid,
    metrics,
    metrics_file,
    outputs,
    paper_results,
    report,
    stand_in,
    tables,
    test_photos,
)
from diffad_jax.evaluation.confusion import confusion
from diffad_jax.evaluation.ranking import NO_RECONSTRUCTION, Metric
from diffad_jax.inference.calibration import Calibration, load_or_choose
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import get_method, stage_folders
from diffad_jax.models import pretrained
from diffad_jax.runtime import console, lock, processes
from diffad_jax.training.fingerprint import describe_photos
from diffad_jax.training.held_out import load_split

_RESULTS = ("table.md", "table.tex", "comparison.html", "*/report.html", "*/contact_sheet.png")
_CASES = 3  # best, median and worst photos of either class on the contact sheet


def evaluate(
    config: ml_collections.ConfigDict,
    workdir: Path,
    compare: Sequence[str] = (),
    overwrite: bool = False,
    corrections_of: Path | None = None,
    waits: bool = False,
) -> None:
    """Evaluates every category; prints one short table.

    Writes metrics.json, table.md and table.tex, and report.html and a contact sheet for each
    category; comparison.html where other runs are compared. Earlier results of another config or of
    other weights are kept, see ``earlier``. Several processes share the scoring; one writes.

    Args:
      config: the whole config.
      workdir: holds the weights.
      compare: work directories of other runs, and "paper" for the published metrics.
      overwrite: keep no earlier results.
      corrections_of: a work directory of --mode=serve. Photos that its inspectors corrected replace
        the test photos, see ``_corrected``; results go to ``workdir / "corrected"``.
      waits: whether to wait for another evaluation that writes there, as of another category.

    Raises:
      UserError: another run has no metrics.json.
      ConfigError: ``config.evaluation.inception_weights`` does not fit; corrections are compared.
      checkpoint.CheckpointError: a category is not trained.
      layouts.DataError: a category is missing, or its corrections are.
      images.ImageError: a test photo or mask is unreadable; they are never skipped.
      stack.StackError: the disk is full.
      lock.LockedError: another evaluation writes there.
    """
    output = workdir if corrections_of is None else workdir / "corrected"
    if corrections_of and compare:
        raise ConfigError("--compare stands beside test photos: leave it or --corrections away")
    with lock.hold(output, waits=waits), processes.one_writes(output) as written:
        compare = compare if written == output else ()
        _evaluate(config, workdir, compare, overwrite, written, corrections_of)


def _evaluate(
    config: ml_collections.ConfigDict,
    workdir: Path,
    compare: Sequence[str],
    overwrite: bool,
    output: Path,
    corrections_of: Path | None,
) -> None:
    started = time.monotonic()
    others = [
        comparison.read_run(Path(expanded(name))) for name in compare if name != paper_results.PAPER
    ]
    inception = load_inception(config)
    results = {}
    for category in config.categories:
        results[category] = evaluate_category(
            config, workdir, category, inception, overwrite, output, corrections_of
        )
        for said in outputs.describe(results[category]):
            console.say(f"{category}: {said}")
        console.say(f"{category}: report in {output / category / 'report.html'}")
    found = {c: r.measured.metrics for c, r in results.items()}
    metrics_file.write_metrics(
        output / "metrics.json",
        found,
        {c: outputs.extras(config, r) for c, r in results.items()},
        earlier.as_json(config),
        time.monotonic() - started,
    )
    compared = []
    if others:
        compared.append(comparison.runs_table([comparison.read_run(workdir), *others]))
        comparison.write_page(workdir / "comparison.html", compared[0])
    if paper_results.PAPER in compare:
        c, conditions = config.data, outputs.conditions(config)
        differences = {
            name: paper_results.difference(name, layouts.read_category(c.root, name, c.layout))
            for name in found
        }
        compared.append(tables.comparison_table(found, differences, conditions))
    outputs.write_tables(config, output, results, compared)
    tested = any(result.drawn is None for result in results.values())
    if tested:
        console.say("\n" + tables.as_text(tables.metrics_table(found, tables.SHORT)))
        console.say(f"mask rule {outputs.mask_rule(config)}")
    for table in compared:
        console.say("\n" + tables.as_text(table))
    if tested:
        console.say(f"\nall metrics in {output / 'metrics.json'}, table.md and table.tex")


def evaluate_category(
    config: ml_collections.ConfigDict,
    workdir: Path,
    category: str,
    inception: Mapping[str, Any] | None,
    overwrite: bool,
    output: Path,
    corrections_of: Path | None,
) -> outputs.Result:
    """Everything about one category; writes its report and contact sheet.

    Args:
      config: the whole config.
      workdir: holds the category's weights.
      category: its name.
      inception: parameters for FID; None leaves it undefined.
      overwrite: keep no earlier results.
      output: gets the results.
      corrections_of: see ``evaluate``.
    """
    of_run = earlier.as_json(config)
    config = bit_depth.stored(config, workdir / category)
    detector = Detector.from_workdir(config, workdir, category)
    calibration = load_or_choose(config, workdir, category, detector)
    records = None
    if corrections_of:
        records = _corrected(config, workdir, category, detector, corrections_of)
    results, measured = measure(config, workdir, category, detector, inception, records)
    if not overwrite:
        made_by = {category: detector.weights_hash}
        earlier.keep(output / "metrics.json", _RESULTS, of_run, made_by)
    test, scores = results.test, results.scores
    verdicts = [
        (v, confusion(test.labels, scores, v.value)) for v in _verdicts(calibration, measured)
    ]
    content = report.Content(
        category=category,
        test=test,
        measured=measured,
        scores=scores,
        maps=results.maps,
        scale=calibration.scale,
        columns=results.columns,
        thresholds=[v for v, _ in verdicts],
        settings=outputs.settings(config, calibration, tested=bool(test.files)),
        no_threshold=calibration.why_no_threshold if calibration.threshold is None else "",
    )
    drawn = None
    if test.files:
        _write_contact_sheet(output / category / "contact_sheet.png", results, calibration)
    else:
        drawn = stand_in.run(config, workdir, category, detector, calibration)
        content = _standing_in(content, drawn)
    report.write_report(output / category / "report.html", content)
    return outputs.Result(
        labels=test.labels,
        defect_types=test.defect_types,
        measured=measured,
        calibration=calibration,
        weights=detector.weights_hash,
        cost=cost.of_detector(
            stage_folders(detector.config, workdir / category),
            detector.weights,
            results.seconds_a_photo,
        ),
        test_photos=describe_photos(test.files),
        verdicts=verdicts,
        drawn=drawn,
    )


def _standing_in(content: report.Content, found: stand_in.StandIns) -> report.Content:
    """The report without test photos, which has no metrics."""
    measured = dataclasses.replace(
        content.measured, aupimo_of_photos=[None] * len(found.test.files)
    )
    return dataclasses.replace(
        content,
        test=found.test,
        measured=measured,
        scores=found.scores,
        maps=found.maps,
        columns=found.columns,
        stand_in=found.note,
    )


def measure(
    config: ml_collections.ConfigDict,
    workdir: Path,
    category: str,
    detector: Detector,
    inception: Mapping[str, Any] | None,
    records: Sequence[layouts.Record] | None = None,
) -> tuple[test_photos.Results, metrics.CategoryMetrics]:
    """The detector's results on a category's test photos, and all metrics of them.

    Meanwhile maps and pictures lie in ``workdir / category``. ``inception`` is as for
    ``evaluate_category``. ``records`` replace the test photos.
    """
    directory = workdir / category
    if records is None:
        found = layouts.read_category(config.data.root, category, config.data.layout)
        records = [r for r in found if r.split == "test"]
        _name_accepted(config, category, detector, records)
    results = test_photos.run(config, category, records, detector, inception, directory)
    memory = config.evaluation.memory_mib
    measured = metrics.find(results.test, results.scores, results.maps, config.seed, memory)
    measured.metrics.update(
        results.direct_copy | _fid(config, directory, category, results, inception)
    )
    return results, measured


def _corrected(
    config: ml_collections.ConfigDict,
    workdir: Path,
    category: str,
    detector: Detector,
    corrections_of: Path,
) -> list[layouts.Record]:
    """Marked defects and accepted good photos that the detector does not know.

    It knows photos that it was trained on, that were held out, or that chose its thresholds.
    """
    photos = load_split(config, workdir / category, category)
    known = {*photos.train.values(), *photos.held_out.values()}
    known |= detector.taken.accepted.keys() if detector.taken else set()
    found, left_out = corrections.as_test_photos(corrections_of, category, known)
    if left_out:
        console.note(
            f"{category}: {left_out} corrected photos are left out, since training or calibration "
            "stands on them"
        )
    return found


def _name_accepted(
    config: ml_collections.ConfigDict,
    category: str,
    detector: Detector,
    records: Sequence[layouts.Record],
) -> None:
    """Notes how many test photos inspectors accepted, so that they chose the thresholds."""
    if detector.taken is None:
        return
    tested = {*split.of_records(config, records).values()}
    if known := tested & detector.taken.accepted.keys():
        console.note(
            f"{category}: inspectors accepted {len(known)} of the test photos, and the calibration "
            "stands on them: good photos called anomalous are too few"
        )


def _verdicts(calibration: Calibration, measured: metrics.CategoryMetrics) -> list[report.Verdict]:
    found = []
    if calibration.threshold is not None:
        chosen_on = calibration.describe_photos()
        said = (calibration.false_alarms.describe(), calibration.describe_decider())
        expects = "; ".join(filter(None, said))
        found.append(
            report.Verdict(
                "held-out normal photos", calibration.threshold, chosen_on, False, expects
            )
        )
    if (best := measured.f1_max_thresholds["image_f1_max"]) is not None:
        # F1-max counts a photo at its threshold as anomalous, a verdict only one above it.
        below = math.nextafter(best, -math.inf)
        found.append(report.Verdict("F1-max", below, outputs.TEST_LABELS, True))
    return found


def load_inception(config: ml_collections.ConfigDict) -> dict[str, Any] | None:
    """Inception's weights for FID; None where the config names none.

    Raises:
      ConfigError: the file is missing or does not hold them.
    """
    c = config.evaluation
    if not c.inception_weights:
        return None
    try:
        layers = (fid.LAYERS[c.fid_dimension],)
        return jax.device_put(pretrained.load_inception(c.inception_weights, layers))
    except (OSError, ValueError) as error:
        raise ConfigError(f"config.evaluation.inception_weights: {error}") from error


def _fid(
    config: ml_collections.ConfigDict,
    directory: Path,
    category: str,
    results: test_photos.Results,
    inception: Mapping[str, Any] | None,
) -> dict[str, Metric]:
    """The FID of the reconstructions against the normal photos that training saw."""
    dimension = config.evaluation.fid_dimension
    if not get_method(config).reconstructs:
        return fid.no_fid(dimension, NO_RECONSTRUCTION)
    if inception is None or results.features is None:
        return fid.no_fid(dimension, fid.NO_WEIGHTS)
    seen = test_photos.training_features(config, directory, category, inception)
    return fid.fid(results.features, seen)


def _write_contact_sheet(
    path: Path, results: test_photos.Results, calibration: Calibration
) -> None:
    test, scores = results.test, results.scores
    columns = ("input", *results.columns, "anomaly map", "ground truth")
    rows = []
    for what, i in pictures.pick_cases(test.labels, scores, _CASES):
        tiles = [
            test.photos[i],
            *(column[i] for column in results.columns.values()),
            pictures.overlay(test.photos[i], results.maps[i], calibration.scale),
        ]
        if test.masks is not None:
            tiles.append(np.repeat(np.uint8(255 * test.masks[i])[..., None], 3, axis=-1))
        name = f"{test.defect_types[i]}/{Path(test.files[i]).name}"
        said = pictures.verdict(scores[i], calibration.threshold)
        rows.append(pictures.Row(f"{what}: {name}, {said}", tiles))
    pictures.contact_sheet(path, columns, rows, calibration.scale)
