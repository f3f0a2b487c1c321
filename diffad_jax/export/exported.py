"""An exported graph that judges photos in place of its detector."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from diffad_jax.export import artifact
from diffad_jax.export.errors import ExportError
from diffad_jax.inference.detector import Detector
from diffad_jax.runtime import checksums
from diffad_jax.runtime.batches import in_batches
from diffad_jax.types import Prediction


class ExportedDetector:
    """The part of a ``Detector`` that ``load_or_choose`` and ``score_photos`` use."""

    taken = None  # an inspectors' calibration is of the detector's scores

    def __init__(
        self, detector: Detector, load: Callable[[Path, dict], artifact.Detect], folder: Path
    ):
        """``folder`` holds only the files of the graph, which ``load`` reads."""
        sums = checksums.of_folder(folder)
        self.config = detector.config
        self.weights_hash = hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
        self.detect = load(folder, {"files": [*sums], "inputs": {}})

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
