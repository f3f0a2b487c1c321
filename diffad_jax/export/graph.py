"""The function of every exported graph: a pure one of weights by name, photos and a seed."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import ml_collections
import numpy as np

from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import get_method
from diffad_jax.types import height_width

Arrays = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity, as jax.jit needs it
class Model:
    """A trained detector of one category, to be written in any format."""

    config: ml_collections.FrozenConfigDict
    workdir: Path
    category: str
    weights: dict[str, np.ndarray]  # by name: STAGE/COLLECTION/MODULE/…/PARAMETER, float32
    common: frozenset[str] = frozenset()  # names of those that other categories have, too

    @property
    def seed(self) -> int:
        """The default of the exported seed: the 32 bits of ``config.seed`` that JAX uses."""
        return self.config.seed & 0xFFFFFFFF

    def __call__(self, weights: Arrays, image: jax.Array, seed: jax.Array) -> Arrays:
        """The exported function.

        Args:
          weights: by name.
          image: [b, h, w, 3] RGB in 0 … 255, uint8 or float32, of ``config.image_size``.
          seed: [] uint32, of the sampling noise, which is the same for every photo.

        Returns:
          ``score`` [b] and ``anomaly_map`` [b, h, w], float32.
        """
        stages = flax.traverse_util.unflatten_dict(weights, sep="/")
        predict = get_method(self.config).predict
        found = predict(stages, image, seed=seed, config=self.config)
        return {"score": found.score, "anomaly_map": found.anomaly_map}

    def arguments(self) -> tuple[Arrays, jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """The shapes of ``__call__``'s arguments for uint8 photos, any number b of them."""
        (batch,) = jax.export.symbolic_shape("b")
        weights = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in self.weights.items()}
        image = jax.ShapeDtypeStruct((batch, *height_width(self.config.image_size), 3), np.uint8)
        return weights, image, jax.ShapeDtypeStruct((), np.uint32)


def weights_by_name(detector: Detector) -> dict[str, np.ndarray]:
    """A detector's weights under the names that exported files use."""
    named = flax.traverse_util.flatten_dict(jax.device_get(detector.weights), sep="/")
    return {name: np.asarray(value) for name, value in named.items()}
