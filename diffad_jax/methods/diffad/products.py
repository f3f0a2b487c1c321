"""How far photos are from the normal photos of several products that share their networks."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_collections

from diffad_jax.methods import patch_bank
from diffad_jax.methods.diffad import memory
from diffad_jax.methods.train_state import Weights
from diffad_jax.types import to_float

Config = ml_collections.FrozenConfigDict


def tell(config: Config) -> Callable[..., jax.Array] | None:
    """See ``contract.Method``: by features, where each product has a bank of them."""
    return distances if config.memory.patches else None


def distances(
    weights: Weights, own: Sequence[Weights], images: jax.Array, *, config: Config
) -> jax.Array:
    """Of each photo's patches to the nearest in each product's bank, the median: [b, k].

    The unit is the product's own: its normal photos' farthest patch. A defect on less than half of
    a photo hardly moves the median.
    """
    found = memory.patches(weights, to_float(images), config=config)
    rows = found.reshape(len(images), -1, found.shape[-1])

    def to_product(fitted: Weights) -> jax.Array:
        distance, _ = patch_bank.nearest(rows, fitted[memory.NAME]["bank"])
        return jnp.median(distance, axis=1) / fitted[memory.NAME]["scale"]

    return jnp.stack([to_product(fitted) for fitted in own], axis=1)
