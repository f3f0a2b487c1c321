"""What users call: photos in, scores and maps out. Runs without TensorFlow."""

import functools
from pathlib import Path

import jax
import ml_collections
import numpy as np

from diffad_jax import checkpoint, fingerprint
from diffad_jax.evaluation.score import image_score
from diffad_jax.reconstruct import reconstruct
from diffad_jax.segment import segment
from diffad_jax.stages import STAGES
from diffad_jax.types import Prediction, to_float


class Detector:
    """A trained DiffAD for one category.

    The sampling noise comes from ``config.seed`` and is the same for every photo: a photo's score
    depends neither on its batch nor on the run.
    """

    def __init__(self, config: ml_collections.ConfigDict, weights: dict):
        """``weights`` holds one entry a stage: autoencoder, denoiser, segmenter."""
        self.config = ml_collections.FrozenConfigDict(config)
        self.digest = fingerprint.digest(weights)
        self.weights = jax.device_put(weights)
        self._predict = jax.jit(
            functools.partial(predict, seed=self.config.seed, config=self.config)
        )

    @classmethod
    def from_workdir(
        cls, config: ml_collections.ConfigDict, workdir: str | Path, category: str
    ) -> "Detector":
        """Loads the weights that training left in ``workdir``.

        Raises:
          checkpoint.CheckpointError: a stage is missing, unfinished, or of another config.
        """
        frozen = ml_collections.FrozenConfigDict(config)
        weights = {}
        for stage in STAGES:
            weights[stage.NAME] = checkpoint.load_weights(
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
        side = self.config.image_size
        if images.dtype != np.uint8 or images.shape[1:] != (side, side, 3):
            raise ValueError(
                f"images must be [b, {side}, {side}, 3] uint8, got {images.dtype} {images.shape}"
            )
        return self._predict(self.weights, images)

    def predict_all(self, images: np.ndarray, batch_size: int) -> Prediction:
        """``predict`` over any number of photos, in batches of one size; results as NumPy.

        Raises:
          checkpoint.CheckpointError: a score is not finite, so the weights are broken.
        """
        count = len(images)
        padding = np.repeat(images[-1:], -count % batch_size, axis=0)
        padded = np.concatenate([images, padding])
        parts = [
            jax.device_get(self.predict(padded[i : i + batch_size]))
            for i in range(0, len(padded), batch_size)
        ]
        found = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)
        if not np.isfinite(found.score).all():
            raise checkpoint.CheckpointError(
                "the detector's scores are not finite: its weights are broken, train again with a "
                "lower learning rate or config.training.gradient_clip"
            )
        return found


def predict(
    weights: dict,
    images: jax.Array,
    *,
    seed: int | jax.Array,
    config: ml_collections.FrozenConfigDict,
) -> Prediction:
    """The whole detector as one pure function.

    Args:
      weights: one entry a stage.
      images: [b, h, w, 3] in 0 … 255, uint8 or float32.
      seed: of the sampling noise; uint32 where it is an array.
      config: the whole config.
    """
    image = to_float(images)
    key = jax.random.key(seed)
    repaired = reconstruct(
        weights, image, key, config=config, num_steps=config.reconstruction.test_steps
    )
    logits = segment(weights["segmenter"], repaired, image, config=config)
    anomaly_map = jax.nn.softmax(logits)[..., 1]
    return Prediction(
        score=image_score(anomaly_map, config.evaluation.smoothing),
        anomaly_map=anomaly_map,
        reconstruction=repaired.reconstruction,
        interpolated=repaired.interpolated,
    )
