"""From which score on a photo is called anomalous: chosen on held-out normal photos alone."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from diffad_jax import scoring
from diffad_jax.data import images, layouts
from diffad_jax.detector import Detector
from diffad_jax.evaluation import metrics_file


class Threshold(NamedTuple):
    """A photo that scores above ``value`` is called anomalous."""

    value: float
    false_alarm_rate: float  # at most this share of the held-out photos exceeds it
    num_held_out_normal: int
    max_windows: int  # of a held-out photo; 1 where they were seen whole


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
        "weights": detector.digest,
        "settings": scoring.settings(config, tile),
    }
    if path.exists():
        stored = json.loads(path.read_text())
        if all(stored.get(key) == value for key, value in depends_on.items()):
            return _threshold(stored)
    _, held_out = layouts.normal_photos(config, category)
    if not held_out:
        return None
    scores, windows = _score(detector, [r.file for r in held_out], tile)
    content = {
        "threshold": float(np.quantile(scores, 1.0 - rate, method="higher")),
        "num_held_out_normal": len(scores),
        "max_windows": max(windows),
        **depends_on,
    }
    metrics_file.write_whole(path, json.dumps(content, indent=2) + "\n")
    return _threshold(content)


def _threshold(stored: dict[str, Any]) -> Threshold:
    return Threshold(
        stored["threshold"],
        stored["false_alarm_rate"],
        stored["num_held_out_normal"],
        stored["max_windows"],
    )


def _score(detector: Detector, files: Sequence[str], tile: bool) -> tuple[list[float], list[int]]:
    """The scores of readable photos, and how many windows each has."""
    scores, windows, reason = [], [], ""
    for result in itertools.chain.from_iterable(scoring.score_photos(detector, files, tile)):
        if isinstance(result, scoring.Scored):
            scores.append(result.score)
            windows.append(result.num_windows)
            continue
        reason = result.reason
        if detector.config.data.on_bad_image == "fail":
            raise images.ImageError(reason)
    if not scores:
        raise images.ImageError(f"none of {len(files)} held-out photos could be read: {reason}")
    return scores, windows
