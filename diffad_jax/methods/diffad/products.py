"""How far photos are from the normal photos of a product, to tell several products apart."""

import ml_collections
from jaxtyping import Float

from diffad_jax.methods import backbone, patch_bank
from diffad_jax.methods.contract import Telling
from diffad_jax.methods.diffad import brightness, features, memory
from diffad_jax.methods.train_state import Weights
from diffad_jax.types import Array, Photos, to_float

Config = ml_collections.FrozenConfigDict


def tell(config: Config) -> Telling | None:
    """See ``contract.Method``: by features, where each product has a bank of them."""
    return Telling(_network, _features, distance) if config.memory.patches else None


def _network(weights: Weights) -> Weights:
    seeing = {backbone.NAME: weights[features.NAME][backbone.NAME]}
    light = {name: weights[name] for name in (brightness.NAME,) if name in weights}
    return light | {features.NAME: seeing}


def _features(weights: Weights, images: Photos, *, config: Config) -> patch_bank.Patches:
    found = memory.patches(weights, to_float(images), config=config)
    return found.reshape(len(images), -1, found.shape[-1])


def distance(
    weights: Weights, patches: patch_bank.Patches, *, config: Config
) -> Float[Array, " b"]:
    """Of each photo's patches to the nearest in the bank, the median.

    The unit is the product's own: its normal photos' farthest patch. A defect on less than half of
    a photo hardly moves the median.
    """
    del config
    fitted = weights[memory.NAME]
    return patch_bank.median_distance(patches, fitted["bank"]) / fitted["scale"]
