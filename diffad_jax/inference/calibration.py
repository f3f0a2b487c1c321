"""Thresholds and colours, chosen on held-out normal photos alone."""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from diffad_jax.data import images, pictures, split
from diffad_jax.data.corrections import Measured
from diffad_jax.data.layouts import LEAST_HELD_OUT, LEAST_PHOTOS
from diffad_jax.errors import UserError
from diffad_jax.inference import batching, thresholds
from diffad_jax.inference.detector import Detector, score_settings
from diffad_jax.inference.thresholds import FalseAlarms
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import console, files
from diffad_jax.runtime.progress import CountProgress
from diffad_jax.training.held_out import load_split

_NONE_HELD_OUT = "no normal photo was held out to choose a threshold"
_MOST_TRAINING_PHOTOS = 64
_REACH = 3.0  # of the colours, in distances between a normal pixel and the threshold


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A photo that scores above ``threshold`` is called anomalous.

    Pictures outline, and regions hold, the pixels of its map above ``pixel_threshold``.
    """

    threshold: float | None  # None where fewer than ``LEAST_HELD_OUT`` photos were held out
    map_range: tuple[float, float]  # the map's values that have the first and the last colour
    false_alarm_rate: float  # about this share of new good photos exceeds the threshold
    num_held_out_normal: int
    max_windows: int  # of a held-out photo; 1 where they were seen whole
    imported: bool = False  # other people's weights, which may have been trained on these photos
    pixel_threshold: float | None = None  # None where there is no threshold of held-out photos
    num_accepted: int = 0  # good photos of inspectors, which chose the thresholds as well
    held_out_scores: tuple[float, ...] = dataclasses.field(default=(), repr=False)
    held_out_names: tuple[str, ...] = dataclasses.field(default=(), repr=False)  # of the same

    @property
    def scale(self) -> pictures.Scale:
        """The colours of the map, and the threshold of the outline."""
        return pictures.Scale(*self.map_range, self.pixel_threshold)

    def describe_photos(self) -> str:
        """The photos that the threshold was chosen on."""
        many = f"{self.num_held_out_normal} held-out normal photos"
        many += f" and {self.num_accepted} that inspectors accepted" if self.num_accepted else ""
        return f"{many}, which the imported weights may have seen" if self.imported else many

    @property
    def why_no_threshold(self) -> str:
        """One sentence on why there is no threshold, and on the remedy."""
        if not self.num_held_out_normal:
            return f"{_NONE_HELD_OUT}: judge by --threshold=X of --mode=predict"
        return (
            f"{self.num_held_out_normal} held-out normal photos are too few for a threshold, which "
            f"takes {LEAST_HELD_OUT}: put in {LEAST_PHOTOS} good photos or more and --retrain, or "
            "judge by --threshold=X of --mode=predict"
        )

    @property
    def false_alarms(self) -> FalseAlarms | None:
        """The false alarms among the held-out photos; None where these did not choose it."""
        if self.threshold is None or not self.num_held_out_normal:
            return None
        return thresholds.false_alarms(self.held_out_scores, self.threshold)

    def at_least(self, other: "Calibration") -> "Calibration":
        """This one, with neither threshold below ``other``'s, where both have thresholds."""
        if self.threshold is None or other.threshold is None:
            return self
        return dataclasses.replace(
            self,
            threshold=max(self.threshold, other.threshold),
            pixel_threshold=max(self.pixel_threshold, other.pixel_threshold),
            num_accepted=other.num_accepted,
        )

    def describe_decider(self) -> str:
        """One clause on the held-out photo whose score is the threshold; empty where none is."""
        scored = zip(self.held_out_names, self.held_out_scores, strict=True)
        deciders = [name for name, score in scored if score == self.threshold]
        if len(deciders) != 1:
            return ""
        return f"the threshold is the score of {deciders[0]}: look whether it shows a good product"

    def describe_outliers(self) -> str:
        """One sentence on held-out photos that lie far above the others; empty where none does."""
        scores = self.held_out_scores
        far = thresholds.far_above(scores) if scores else []
        if not far or self.threshold is None:
            return ""
        named = ", ".join(f"{self.held_out_names[i]} (score {scores[i]:.4g})" for i in far)
        above = all(scores[i] > self.threshold for i in far)
        return (
            f"far above the other held-out photos (median {np.median(scores):.4g}): {named}; "
            f"{'not counted' if above else 'counted'} for the threshold. Take away what shows a "
            "defect, and --retrain"
        )


@dataclasses.dataclass(frozen=True)
class _Predictions:
    """The detector's results for n normal photos."""

    scores: list[float]
    windows: list[int]  # of each
    medians: list[float]  # of the pixels of each photo's map
    largest: list[float]  # pixel of each
    names: list[str]  # of the photos, below config.data.root


def load_or_choose(
    config: ml_collections.ConfigDict,
    workdir: Path,
    category: str,
    detector: Detector,
    tile: bool = False,
    threshold: float | None = None,
    variant: str = "",
    accepted: Sequence[Measured] | None = None,
) -> Calibration:
    """The calibration by the photos that were held out when training began.

    ``thresholds.choose`` of their scores is the threshold, and of their largest pixels the pixel
    threshold: at most that share of the normal photos has a pixel above it. With fewer held-out
    photos than ``LEAST_HELD_OUT`` there is neither threshold.

    The method gives the map's range. For a map of distances the range begins at the median of the
    photos' medians, and ends three times as far from there as the pixel threshold. Without held-out
    photos, up to 64 training photos give the range, which makes pictures brighter.

    The results are stored beside the weights, so another ``config.evaluation.false_alarm_rate``
    needs no photos. They are made again where weights, photos or settings of scores have changed.
    ``tile`` has a file of its own, as tiles have other scores; so has a ``variant``.

    Good photos that inspectors accepted (``--mode=serve``) count as held-out ones, for photos seen
    whole: those of ``detector.taken``, or ``accepted`` in their place, which is then not stored.
    All keep the scores that ``detector.trained`` gives them: a level of normal photos that accepted
    ones have lifted lowers all scores, and more good photos would exceed a threshold that followed
    them down.

    A ``threshold`` of the user's own replaces the chosen one; the pixel threshold stays. Then the
    photos may be gone. Without them there is no pixel threshold, and a map of distances has a range
    from 0 to twice the threshold.

    Raises:
      images.ImageError: an unreadable photo, unless ``config.data.on_bad_image`` is ``skip``; no
        photo is readable.
      layouts.DataError: a held-out photo is gone, or is not as it was.
    """
    if threshold is not None:
        return _with_threshold(config, workdir, category, detector, tile, threshold)
    method, directory, trained = get_method(config), workdir / category, detector.trained
    names = ["threshold", *(["tile"] if tile else []), *([variant] if variant else [])]
    path = directory / f"{'_'.join(names)}.json"
    photos = load_split(config, directory, category)
    fixed = method.map_range(config)
    if not photos.held_out and fixed:
        return Calibration(None, fixed, config.evaluation.false_alarm_rate, 0, 1)
    looked_at = photos.held_out or dict([*photos.train.items()][:_MOST_TRAINING_PHOTOS])
    depends_on = {
        "weights": trained.weights_hash,
        "settings": score_settings(config, tile),
        "photos": looked_at,
    }
    stored = files.read_json(path)
    predictions = _stored(stored, depends_on)
    is_new = predictions is None
    if is_new:
        predictions = _predict(trained, split.paths(config, looked_at), sorted(looked_at), tile)
    if accepted is not None:
        return _calibrate(config, photos, predictions, accepted)
    counts = detector.taken and photos.held_out and not (tile or variant)
    taken = [*detector.taken.accepted.values()] if counts else []
    found = _calibrate(config, photos, predictions, taken)
    if is_new and (said := found.describe_outliers()):
        console.note(f"{category}: {said}")
    content = {
        "threshold": found.threshold,
        "pixel_threshold": found.pixel_threshold,
        "false_alarm_rate": found.false_alarm_rate,
        "false_alarms": found.false_alarms._asdict() if found.false_alarms else None,
        **depends_on,
        "predictions": dataclasses.asdict(predictions),
    }
    if content != stored and jax.process_index() == 0:
        try:
            files.write_whole(path, json.dumps(content, indent=2) + "\n")
        except OSError as error:  # read-only, or full
            console.note(f"threshold {found.threshold}, found anew and not kept: {error}")
    return found


def _with_threshold(
    config: ml_collections.ConfigDict,
    workdir: Path,
    category: str,
    detector: Detector,
    tile: bool,
    threshold: float,
) -> Calibration:
    try:
        found = load_or_choose(config, workdir, category, detector, tile)
    except UserError as error:
        console.note(f"colours are from 0 to twice the threshold, since {error}")
        found = Calibration(None, (0.0, 2.0 * threshold), 0.0, 0, 0)
    map_range = get_method(config).map_range(config) or found.map_range
    return dataclasses.replace(
        found, threshold=threshold, map_range=map_range, num_held_out_normal=0
    )


def measured(score: float, anomaly_map: np.ndarray) -> Measured:
    """The part of a photo's result that calibration needs."""
    return Measured(score, float(np.median(anomaly_map)), float(anomaly_map.max()))


def _stored(stored: Mapping[str, Any], depends_on: Mapping[str, Any]) -> _Predictions | None:
    """The stored results of an earlier run with the same settings; else None."""
    if not all(stored.get(key) == value for key, value in depends_on.items()):
        return None
    # Files of earlier versions hold no names: then all photos' names, if all were readable.
    found = _Predictions(**{"names": sorted(depends_on["photos"])} | stored["predictions"])
    return found if len(found.names) == len(found.scores) else None


def _calibrate(
    config: ml_collections.ConfigDict,
    photos: split.Split,
    predictions: _Predictions,
    accepted: Sequence[Measured],
) -> Calibration:
    rate = config.evaluation.false_alarm_rate
    low = float(np.median([*predictions.medians, *(m.median for m in accepted)]))
    pixel_threshold = thresholds.choose(predictions.largest, [m.largest for m in accepted], rate)
    threshold = thresholds.choose(predictions.scores, [m.score for m in accepted], rate)
    high = low + _REACH * (pixel_threshold - low)
    enough = bool(photos.held_out) and len(predictions.scores) >= LEAST_HELD_OUT
    return Calibration(
        threshold=threshold if enough else None,
        map_range=get_method(config).map_range(config) or (low, high),
        false_alarm_rate=rate,
        num_held_out_normal=len(predictions.scores) if photos.held_out else 0,
        max_windows=max(predictions.windows),
        imported=photos.imported,
        pixel_threshold=pixel_threshold if enough else None,
        num_accepted=len(accepted),
        held_out_scores=tuple(predictions.scores) if photos.held_out else (),
        held_out_names=tuple(predictions.names) if photos.held_out else (),
    )


def _predict(
    detector: Detector, paths: Sequence[str], names: Sequence[str], tile: bool
) -> _Predictions:
    """Results for the readable photos of ``paths``; ``names`` are theirs."""
    found, reason = _Predictions([], [], [], [], []), ""
    name_of = dict(zip(paths, names, strict=True))
    with CountProgress(len(paths), "normal photos") as progress:
        for result in itertools.chain.from_iterable(batching.score_photos(detector, paths, tile)):
            progress.update(1)
            if isinstance(result, batching.Scored):
                score, median, largest = measured(result.score, result.anomaly_map)
                found.scores.append(score)
                found.windows.append(result.num_windows)
                found.medians.append(median)
                found.largest.append(largest)
                found.names.append(name_of[result.path])
                continue
            reason = result.reason
            if detector.config.data.on_bad_image == "fail":
                raise images.ImageError(reason)
            images.log_skipped(reason)
    if not found.scores:
        raise images.ImageError(f"none of {len(paths)} normal photos could be read: {reason}")
    return found
