"""From which score on a photo is called anomalous: chosen on held-out normal photos alone."""

import json
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np

from diffad_jax.data import images, layouts
from diffad_jax.detector import Detector


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
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["false_alarm_rate"] == rate and stored["weights"] == detector.digest:
            return Threshold(stored["threshold"], rate, stored["num_held_out_normal"])
    c = config.data
    _, held_out = layouts.normal_photos(config, category)
    if not held_out:
        return None
    batch_size = config.evaluation.batch_size
    batches = images.read_batches(
        [r.file for r in held_out], batch_size, config.image_size, c.resize, c.on_bad_image
    )
    scores = np.concatenate([detector.predict_all(b, batch_size).score for b in batches])
    chosen = float(np.quantile(scores, 1.0 - rate, method="higher"))
    path.write_text(
        json.dumps(
            {
                "threshold": chosen,
                "false_alarm_rate": rate,
                "num_held_out_normal": len(scores),
                "weights": detector.digest,
            },
            indent=2,
        )
        + "\n"
    )
    return Threshold(chosen, rate, len(scores))
