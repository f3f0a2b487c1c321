"""From which score on a photo is called anomalous: chosen on held-out normal photos alone."""

import json
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np

from diffad_jax import methods
from diffad_jax.data import images, layouts
from diffad_jax.detector import Detector
from diffad_jax.evaluation import metrics_file
from diffad_jax.types import Prediction

_MOST_TRAINING_PHOTOS = 64


class Threshold(NamedTuple):
    """A photo that scores above ``value`` is called anomalous."""

    value: float
    false_alarm_rate: float  # at most this share of the held-out photos exceeds it
    num_held_out_normal: int
    map_range: tuple[float, float]  # see ``load_map_range``


def load_or_choose(
    config: ml_collections.ConfigDict, workdir: Path, category: str, detector: Detector
) -> Threshold | None:
    """The threshold stored beside the weights, or a new one, which is stored.

    It is the least score that at most ``config.evaluation.false_alarm_rate`` of the held-out
    normal photos exceed; None where no photo is held out.
    """
    path = workdir / category / "threshold.json"
    rate = config.evaluation.false_alarm_rate
    stored = metrics_file.read(path)
    known = "map_range" in stored and stored["weights"] == detector.digest
    if known and stored["false_alarm_rate"] == rate:
        limits = tuple(stored["map_range"])
        return Threshold(stored["threshold"], rate, stored["num_held_out_normal"], limits)
    _, held_out = layouts.normal_photos(config, category)
    if not held_out:
        return None
    predicted = _predict(config, held_out, detector)
    scores = predicted.score
    chosen = float(np.quantile(scores, 1.0 - rate, method="higher"))
    limits = methods.of(config).MAP_RANGE or _map_range(predicted.anomaly_map, rate)
    stored = {
        "threshold": chosen,
        "false_alarm_rate": rate,
        "num_held_out_normal": len(scores),
        "map_range": limits,
        "weights": detector.digest,
    }
    metrics_file.write_whole(path, json.dumps(stored, indent=2) + "\n")
    return Threshold(chosen, rate, len(scores), limits)


def load_map_range(
    config: ml_collections.ConfigDict, workdir: Path, category: str, detector: Detector
) -> tuple[float, float]:
    """The map's values that pictures show as black and as yellow.

    Of probabilities 0 and 1. Of distances the median pixel of held-out normal photos, and as far
    again above the value that at most ``config.evaluation.false_alarm_rate`` of these photos
    exceed anywhere as this lies above the median: so it is shown half way. Where no photo is
    held out, up to 64 training photos take their place, which makes pictures brighter.
    """
    if fixed := methods.of(config).MAP_RANGE:
        return fixed
    if (chosen := load_or_choose(config, workdir, category, detector)) is not None:
        return chosen.map_range
    trained_on = layouts.normal_photos(config, category)[0][:_MOST_TRAINING_PHOTOS]
    maps = _predict(config, trained_on, detector).anomaly_map
    return _map_range(maps, config.evaluation.false_alarm_rate)


def _predict(
    config: ml_collections.ConfigDict, records: list[layouts.Record], detector: Detector
) -> Prediction:
    c, files = config.data, [r.file for r in records]
    photos, _, _ = images.read_images(files, config.image_size, c.resize, c.on_bad_image)
    return detector.predict_all(photos, config.evaluation.batch_size)


def _map_range(maps: np.ndarray, rate: float) -> tuple[float, float]:
    """Of maps [n, s, s] of normal photos; see ``load_map_range``."""
    low = float(np.median(maps))
    middle = float(np.quantile(maps.max(axis=(1, 2)), 1.0 - rate, method="higher"))
    return low, 2 * middle - low
