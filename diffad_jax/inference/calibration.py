"""From which score on a photo is called anomalous: chosen on held-out normal photos alone."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from diffad_jax.data import images, layouts
from diffad_jax.inference import batching
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import files

_MOST_TRAINING_PHOTOS = 64


class Threshold(NamedTuple):
    """A photo that scores above ``value`` is called anomalous."""

    value: float
    false_alarm_rate: float  # at most this share of the held-out photos exceeds it
    num_held_out_normal: int
    max_windows: int  # of a held-out photo; 1 where they were seen whole
    map_range: tuple[float, float]  # see ``load_map_range``


class _Normal(NamedTuple):
    """What the detector says of normal photos."""

    scores: list[float]
    windows: list[int]  # of each
    medians: list[float]  # of the pixels of each photo's map
    largest: list[float]  # pixel of each


def load_or_choose(
    config: ml_collections.ConfigDict,
    workdir: Path,
    category: str,
    detector: Detector,
    tile: bool = False,
) -> Threshold | None:
    """The threshold stored beside the weights, or a new one, which is stored.

    It is the least score that at most ``config.evaluation.false_alarm_rate`` of the held-out
    normal photos exceed; None where no photo is held out. A photo in tiles scores otherwise than a
    resized one, so with ``tile`` the held-out photos are tiled too, and the threshold has a file of
    its own.

    Raises:
      images.ImageError: an unreadable photo, unless ``config.data.on_bad_image`` is ``skip``; no
        photo is readable.
    """
    path = workdir / category / ("threshold_tile.json" if tile else "threshold.json")
    rate = config.evaluation.false_alarm_rate
    depends_on = {
        "false_alarm_rate": rate,
        "weights": detector.weights_hash,
        "settings": batching.settings(config, tile),
    }
    stored = files.read_json(path)
    if stored and all(stored.get(key) == value for key, value in depends_on.items()):
        return _threshold(stored)
    _, held_out = layouts.normal_photos(config, category)
    if not held_out:
        return None
    found = _look(detector, [r.file for r in held_out], tile)
    content = {
        "threshold": threshold_at_rate(found.scores, rate),
        "num_held_out_normal": len(found.scores),
        "max_windows": max(found.windows),
        "map_range": get_method(config).map_range(config) or _map_range(found, rate),
        **depends_on,
    }
    files.write_whole(path, json.dumps(content, indent=2) + "\n")
    return _threshold(content)


def load_map_range(
    config: ml_collections.ConfigDict,
    workdir: Path,
    category: str,
    detector: Detector,
    tile: bool = False,
) -> tuple[float, float]:
    """The map's values that pictures show as black and as yellow.

    Of probabilities 0 and 1. Of distances the median over held-out normal photos of their median
    pixel, and as far again above the value that at most ``config.evaluation.false_alarm_rate`` of
    these photos exceed anywhere as this lies above the median: so it is shown half way. Where no
    photo is held out, up to 64 training photos take their place, which makes pictures brighter.
    """
    if fixed := get_method(config).map_range(config):
        return fixed
    if (chosen := load_or_choose(config, workdir, category, detector, tile)) is not None:
        return chosen.map_range
    trained_on = layouts.normal_photos(config, category)[0][:_MOST_TRAINING_PHOTOS]
    found = _look(detector, [r.file for r in trained_on], tile)
    return _map_range(found, config.evaluation.false_alarm_rate)


def threshold_at_rate(scores: Sequence[float], rate: float) -> float:
    """The least of ``scores`` that at most this share of them exceeds."""
    return float(np.quantile(scores, 1.0 - rate, method="higher"))


def _threshold(stored: dict[str, Any]) -> Threshold:
    return Threshold(
        stored["threshold"],
        stored["false_alarm_rate"],
        stored["num_held_out_normal"],
        stored["max_windows"],
        tuple(stored["map_range"]),
    )


def _look(detector: Detector, files: Sequence[str], tile: bool) -> _Normal:
    """Of readable photos."""
    found, reason = _Normal([], [], [], []), ""
    for result in itertools.chain.from_iterable(batching.score_photos(detector, files, tile)):
        if isinstance(result, batching.Scored):
            found.scores.append(result.score)
            found.windows.append(result.num_windows)
            found.medians.append(float(np.median(result.anomaly_map)))
            found.largest.append(float(result.anomaly_map.max()))
            continue
        reason = result.reason
        if detector.config.data.on_bad_image == "fail":
            raise images.ImageError(reason)
    if not found.scores:
        raise images.ImageError(f"none of {len(files)} normal photos could be read: {reason}")
    return found


def _map_range(normal: _Normal, rate: float) -> tuple[float, float]:
    low = float(np.median(normal.medians))
    middle = threshold_at_rate(normal.largest, rate)
    return low, 2 * middle - low
