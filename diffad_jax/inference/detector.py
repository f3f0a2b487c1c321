"""What users call: photos in, scores and maps out. Runs without TensorFlow."""

import functools
from pathlib import Path

import jax
import ml_collections
import numpy as np

from diffad_jax.data import bit_depth
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime.batches import in_batches
from diffad_jax.training import checkpoint, fingerprint
from diffad_jax.types import Prediction, height_width


class Detector:
    """A trained method for one category."""

    def __init__(self, config: ml_collections.ConfigDict, weights: dict):
        """``weights`` holds one entry for each stage of ``config.method``, by its name."""
        self.config = ml_collections.FrozenConfigDict(config)
        self.weights_hash = fingerprint.weights_hash(weights)
        self.weights = jax.device_put(weights)
        self._predict = jax.jit(
            functools.partial(get_method(config).predict, seed=self.config.seed, config=self.config)
        )

    @classmethod
    def from_workdir(
        cls, config: ml_collections.ConfigDict, workdir: str | Path, category: str
    ) -> "Detector":
        """Loads the weights that training left in ``workdir``.

        Raises:
          checkpoint.CheckpointError: a stage is missing, unfinished, or of another config.
        """
        config = bit_depth.stored(config, Path(workdir) / category)
        frozen = ml_collections.FrozenConfigDict(config)
        weights = {}
        for stage in get_method(config).stages(frozen):
            weights[stage.name] = checkpoint.load_weights(
                stage, frozen, weights, Path(workdir) / category
            )
        return cls(config, weights)

    def predict(self, images: np.ndarray) -> Prediction:
        """Scores photos.

        Args:
          images: [b, h, w, 3] uint8 RGB, resized to ``config.image_size`` by
            ``data.images.read_image``. Each new b is compiled once.

        Raises:
          ValueError: images of another size or type.
        """
        height, width = height_width(self.config.image_size)
        if images.dtype != np.uint8 or images.shape[1:] != (height, width, 3):
            raise ValueError(
                f"images must be [b, {height}, {width}, 3] uint8, got {images.dtype} {images.shape}"
            )
        return self._predict(self.weights, images)

    def predict_all(self, images: np.ndarray, batch_size: int) -> Prediction:
        """``predict`` over any number of photos, in batches of one size; results as NumPy.

        Raises:
          checkpoint.CheckpointError: a score is not finite, so the weights are broken.
        """
        predictions = in_batches(self.predict, [images], batch_size)
        if not np.isfinite(predictions.score).all():
            raise checkpoint.CheckpointError(
                "the detector's scores are not finite: its weights are broken, train again with a "
                "lower learning rate or config.training.gradient_clip"
            )
        return predictions
