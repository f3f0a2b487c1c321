"""From a photo and its defect-free version to logits: what stage 3 trains and the detector runs."""

import jax
import jax.numpy as jnp
import ml_collections

from diffad_jax import networks
from diffad_jax.reconstruct import Reconstruction


def segmenter_input(repaired: Reconstruction, image: jax.Array) -> jax.Array:
    """concat(x_r, x_inter, x): [b, h, w, 3] each in [0, 1] -> [b, h, w, 9]."""
    return jnp.concatenate([repaired.reconstruction, repaired.interpolated, image], axis=-1)


def segment(
    weights: dict, repaired: Reconstruction, image: jax.Array, *,
    config: ml_collections.FrozenConfigDict,
) -> jax.Array:  # fmt: skip
    """Logits [b, h, w, 2] (normal, anomalous) by the trained segmenter."""
    inputs = segmenter_input(repaired, image)
    return networks.segmenter(config).apply(weights, inputs, train=False).astype(jnp.float32)
