"""From which score on a photo is called anomalous: chosen on held-out normal photos alone."""

import json
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np

from diffad_jax.data import images, layouts
from diffad_jax.detector import Detector
from diffad_jax.evaluation import metrics_file


class Threshold(NamedTuple):
    """A photo that scores above ``value`` is called anomalous."""

    value: float
    false_alarm_rate: float  # at most this share of the held-out photos exceeds it
    num_held_out_normal: int


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
    if stored.get("false_alarm_rate") == rate and stored.get("weights") == detector.digest:
        return Threshold(stored["threshold"], rate, stored["num_held_out_normal"])
    c = config.data
    _, held_out = layouts.normal_photos(config, category)
    if not held_out:
        return None
    photos, _, _ = images.read_images(
        [r.file for r in held_out], config.image_size, c.resize, c.on_bad_image
    )
    scores = detector.predict_all(photos, config.evaluation.batch_size).score
    chosen = float(np.quantile(scores, 1.0 - rate, method="higher"))
    stored = {
        "threshold": chosen,
        "false_alarm_rate": rate,
        "num_held_out_normal": len(photos),
        "weights": detector.digest,
    }
    metrics_file.write_whole(path, json.dumps(stored, indent=2) + "\n")
    return Threshold(chosen, rate, len(photos))
