"""An exported graph that judges photos in place of its detector."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from diffad_jax.export import artifact
from diffad_jax.export.errors import ExportError
from diffad_jax.inference.calibration import Calibration
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.train_state import Weights
from diffad_jax.runtime import checksums
from diffad_jax.runtime.batches import in_batches
from diffad_jax.types import Prediction


class ExportedDetector:
    """The part of a ``Detector`` that ``load_or_choose`` and ``score_photos`` use."""

    taken = None  # an inspectors' calibration is of the detector's scores

    def __init__(
        self,
        config: ml_collections.FrozenConfigDict,
        weights_hash: str,
        detect: artifact.Detect,
        weights: Weights | None = None,
    ):
        """``weights`` are those of the stages, where the format keeps them by name."""
        self.config, self.weights_hash, self.detect = config, weights_hash, detect
        self.weights = weights

    @classmethod
    def of_graph(
        cls, detector: Detector, load: Callable[[Path, dict], artifact.Detect], folder: Path
    ) -> "ExportedDetector":
        """Of a ``folder`` that holds only the files of the graph, which ``load`` reads."""
        sums = checksums.of_folder(folder)
        marked = hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
        return cls(detector.config, marked, load(folder, {"files": [*sums], "inputs": {}}))

    @property
    def trained(self) -> "ExportedDetector":
        return self

    def predict_all(self, images: np.ndarray, batch_size: int) -> Prediction:
        """See ``Detector.predict_all``.

        Raises:
          ExportError: a score is not finite.
        """

        def run(batch: np.ndarray) -> Prediction:
            found = self.detect(batch, self.config.seed & 0xFFFFFFFF)
            return Prediction(found["score"], found["anomaly_map"])

        predictions = in_batches(run, [images], batch_size)
        if not np.isfinite(predictions.score).all():
            raise ExportError("the exported graph's scores are not finite: choose another --format")
        return predictions


def calibration_of(card: dict[str, Any], threshold: float | None = None) -> Calibration:
    """The card's calibration; a ``threshold`` of the user's own replaces the chosen one."""
    limit, outlined = card["threshold"], card["pixel_threshold"]
    found = Calibration(
        threshold=limit and limit["value"],
        map_range=(card["colours"]["low"], card["colours"]["high"]),
        false_alarm_rate=limit["false_alarm_rate"] if limit else 0.0,
        num_held_out_normal=limit["num_held_out_normal"] if limit else 0,
        max_windows=1,
        pixel_threshold=outlined and outlined["value"],
        num_accepted=limit["num_accepted"] if limit else 0,
    )
    if threshold is None:
        return found
    return dataclasses.replace(found, threshold=threshold, num_held_out_normal=0)
