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
    scores, limits = _look(config, held_out, detector)
    chosen = float(np.quantile(scores, 1.0 - rate, method="higher"))
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

    Of probabilities 0 and 1. Of distances the median over held-out normal photos of their median
    pixel, and as far again above the value that at most ``config.evaluation.false_alarm_rate`` of
    these photos exceed anywhere as this lies above the median: so it is shown half way. Where no
    photo is held out, up to 64 training photos take their place, which makes pictures brighter.
    """
    if fixed := methods.of(config).MAP_RANGE:
        return fixed
    if (chosen := load_or_choose(config, workdir, category, detector)) is not None:
        return chosen.map_range
    trained_on = layouts.normal_photos(config, category)[0][:_MOST_TRAINING_PHOTOS]
    return _look(config, trained_on, detector)[1]


def _look(
    config: ml_collections.ConfigDict, records: list[layouts.Record], detector: Detector
) -> tuple[np.ndarray, tuple[float, float]]:
    """The scores of normal photos, and the map's range that they give."""
    c, size = config.data, config.evaluation.batch_size
    files = [r.file for r in records]
    batches = images.read_batches(files, size, config.image_size, c.resize, c.on_bad_image)
    scores, medians, largest = [], [], []
    for batch in batches:
        predicted = detector.predict_all(batch, size)
        scores.append(predicted.score)
        medians.append(np.median(predicted.anomaly_map, axis=(1, 2)))
        largest.append(predicted.anomaly_map.max(axis=(1, 2)))
    low = float(np.median(np.concatenate(medians)))
    share = 1.0 - config.evaluation.false_alarm_rate
    middle = float(np.quantile(np.concatenate(largest), share, method="higher"))
    limits = methods.of(config).MAP_RANGE or (low, 2 * middle - low)
    return np.concatenate(scores), limits
