"""The test photos of a category through its detector, batch by batch.

Memory holds one batch and a few numbers for each photo; maps and pictures go to the disk.
"""

import dataclasses
import math
import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from diffad_jax.data import images, layouts, masks, pictures, split
from diffad_jax.data.masks import MaskSet
from diffad_jax.evaluation import direct_copy, fid
from diffad_jax.evaluation.direct_copy import direct_copy_metrics, squared_errors
from diffad_jax.evaluation.metrics import TestSet
from diffad_jax.evaluation.ranking import NO_RECONSTRUCTION, Metric
from diffad_jax.evaluation.stack import Stack
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import console, processes
from diffad_jax.runtime.batches import filled_up
from diffad_jax.runtime.progress import CountProgress
from diffad_jax.training.held_out import load_split
from diffad_jax.types import Images, Prediction, height_width


@dataclasses.dataclass(frozen=True)
class Results:
    """A detector's results on n test photos."""

    test: TestSet
    scores: Float64[np.ndarray, " n"]  # exact beside thresholds that are Python floats
    maps: Float32[Stack, "n h w"]
    columns: Mapping[str, UInt8[Stack, "n h w 3"]]  # by title: reconstruction, interpolated ...
    direct_copy: dict[str, Metric]
    features: fid.Statistics | None  # of the reconstructions; None without Inception's weights
    seconds_a_photo: float | None  # in the fastest batch; None where there was but one


def run(
    config: ml_collections.ConfigDict,
    category: str,
    records: Sequence[layouts.Record],
    detector: Detector,
    inception: Mapping[str, Any] | None,
    folder: Path,
) -> Results:
    """Reads and scores test photos, of which there may be none. Several processes share the work.

    Args:
      config: the whole config.
      category: its name.
      records: the photos.
      detector: of this category.
      inception: parameters for FID.
      folder: its disk holds the maps while they are needed; no file stays.

    Raises:
      images.ImageError: a photo or mask is unreadable; none is ever skipped.
      stack.StackError: the disk is full.
    """
    size, e = height_width(config.image_size), config.evaluation
    have_masks = not any(r.is_anomalous and r.mask is None for r in records)
    rules = images.rules(config.data)
    mask_set, problems = masks.survey([r.mask for r in records if r.mask is not None], rules)
    for problem in problems:
        console.note(problem)
    if mask_set.values not in ((), (255,)):
        console.note(f"{category}: {mask_set.describe()}")
    photos = Stack(folder, (*size, 3), np.uint8)
    truths, maps = Stack(folder, size, bool), Stack(folder, size, np.float32)
    columns: dict[str, Stack] = {}
    scores, squares, areas = [np.zeros(0)], [np.zeros(0)], [np.zeros(0, int)]
    seconds: list[float] = []
    reconstructs, features = get_method(config).reconstructs, None
    if reconstructs and inception is not None:
        features = fid.no_statistics(e.fid_dimension)
    batches = [records[i : i + e.batch_size] for i in range(0, len(records), e.batch_size)]
    with CountProgress(len(records), title=f"{category}, test") as progress:
        scored = _scored(batches, size, rules, detector, e.batch_size, seconds)
        for batch, (pixels, predicted) in zip(batches, scored, strict=True):
            truth = _read_masks(batch, size, mask_set, e.mask_rule)
            photos.append(pixels)
            truths.append(truth)
            maps.append(predicted.anomaly_map)
            for title, pictured in made(config, predicted).items():
                column = columns.setdefault(title, Stack(folder, (*size, 3), np.uint8))
                column.append(pictures.to_bytes(pictured))
            scores.append(predicted.score)
            areas.append(truth.sum(axis=(1, 2)))
            if reconstructs:
                exact = np.divide(pixels, 255.0, dtype=np.float32)
                squares.append(squared_errors(exact, predicted.reconstruction, truth))
            if features is not None:
                of_batch = fid.image_statistics(
                    [predicted.reconstruction], inception, e.fid_dimension
                )
                features = fid.merge(features, of_batch)
            progress.update(len(batch))
    test = TestSet(
        files=[r.file for r in records],
        defect_types=[r.defect_type for r in records],
        labels=np.array([r.is_anomalous for r in records], bool),
        photos=photos,
        masks=truths if have_masks else None,
    )
    copied = dict.fromkeys(direct_copy.NAMES, Metric(None, NO_RECONSTRUCTION))
    if reconstructs:
        errors = np.concatenate(squares) if have_masks else None
        copied = direct_copy_metrics(errors, np.concatenate(areas), math.prod(size), test.labels)
    exact_scores = np.concatenate(scores).astype(np.float64)
    fastest = min(seconds) if len(seconds) > 1 else None
    return Results(test, exact_scores, maps, columns, copied, features, fastest)


def _scored(
    batches: Sequence[Sequence[layouts.Record]],
    size: tuple[int, int],
    rules: images.Rules,
    detector: Detector,
    full: int,
    seconds: list[float],
) -> Iterator[tuple[np.ndarray, Prediction]]:
    """Photos and predictions, batch by batch, shared between processes; adds to ``seconds``."""

    def score(i: int) -> tuple[np.ndarray, Prediction]:
        pixels, _, _ = images.read_images([r.file for r in batches[i]], size, rules)
        pixels = filled_up(pixels, full)
        started = time.perf_counter()
        predicted = detector.predict_all(pixels, full)
        seconds.append((time.perf_counter() - started) / full)
        return pixels, predicted

    for batch, found in zip(batches, processes.share_out(len(batches), score), strict=True):
        yield jax.tree.map(operator.itemgetter(slice(len(batch))), found)


def made(config: ml_collections.ConfigDict, predicted: Prediction) -> dict[str, Images]:
    """The pictures that the method makes of the photos, by title."""
    columns = {}
    if predicted.reconstruction is not None:
        columns["reconstruction"] = predicted.reconstruction
    if predicted.interpolated is not None:
        for i, weight in enumerate(config.reconstruction.interpolation):
            columns[f"interpolated {weight:g}"] = predicted.interpolated[:, i]
    return columns


def training_features(
    config: ml_collections.ConfigDict,
    directory: Path,
    category: str,
    inception: Mapping[str, Any],
) -> fid.Statistics:
    """The statistics of the normal photos that training saw, for FID."""
    c, e = config.data, config.evaluation
    files = split.paths(config, load_split(config, directory, category).train)
    batches = images.read_batches(
        files, e.batch_size, config.image_size, images.rules(c), c.on_bad_image
    )
    exact = (np.divide(batch, 255.0, dtype=np.float32) for batch in batches)
    return fid.image_statistics(exact, inception, e.fid_dimension)


def _read_masks(
    records: Sequence[layouts.Record], size: tuple[int, int], mask_set: MaskSet, rule: str
) -> np.ndarray:
    """[b, *size] bool; those of normal photos are empty."""
    masks = np.zeros((len(records), *size), bool)
    for mask, r in zip(masks, records, strict=True):
        if r.mask is not None:
            mask[:] = mask_set.read(r.mask, size, rule, images.photo_size(r.file, mask_set.rules))
    return masks
