"""Features of a pretrained network, for the segmenter to compare; not in the paper.

They are those of the photo and of its reconstruction, in the networks' light. Each channel is
standardised on normal photos. The segmenter takes them in at its levels of the same size.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Float

from diffad_jax.methods import backbone
from diffad_jax.methods.contract import Pretrained, Stage
from diffad_jax.methods.diffad import brightness, fields, networks
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.methods.diffad.reconstruct import Reconstruction
from diffad_jax.methods.train_state import Params, Weights
from diffad_jax.runtime.sharding import over_photos
from diffad_jax.types import Array, Images, Photos, to_float

NAME = "features"
Config = ml_collections.FrozenConfigDict
_SMALLEST_VARIANCE = 1e-6  # of a channel that normal photos leave at rest


def pretrained(config: Config) -> Pretrained:
    """See ``contract.Stage``."""
    c = config.segmentation
    network = networks.feature_network(config)
    return backbone.trained_by_others(
        c.features, network, "segmentation.feature_weights", c.feature_weights
    )


def fit(config: Config, photos: Iterator[Photos], earlier_weights: Weights) -> Params:
    """See ``contract.Stage``: the network's parameters, and by layer each channel's statistics.

    They are ``mean`` and ``deviation``, [c] float32.
    """
    sums, count = None, 0
    for batch in over_photos(_moments, earlier_weights, photos, config):
        added = jax.tree.map(lambda x: np.asarray(x, np.float64).sum(0), batch)
        sums = added if sums is None else jax.tree.map(np.add, sums, added)
        count += len(jax.tree.leaves(batch)[0])
    mean = {name: first / count for name, (first, _) in sums.items()}
    deviation = {
        name: np.sqrt(np.maximum(square / count - mean[name] ** 2, _SMALLEST_VARIANCE))
        for name, (_, square) in sums.items()
    }
    found = {"mean": mean, "deviation": deviation}
    return {backbone.NAME: earlier_weights[backbone.NAME]} | jax.tree.map(np.float32, found)


def compared(
    weights: Weights, reconstruction: Reconstruction, photo: Exposed, *, config: Config
) -> list[Float[Array, "b _ _ _"]]:
    """The segmenter's inputs beside the pictures, of each layer.

    ``config.segmentation.compare`` chooses them: the standardised features f(x) of the photo, their
    distance |f(x) - f(x_r)| to those of the reconstruction, or both, side by side.

    Args:
      weights: of the stages; nothing is read where ``config.segmentation.features`` is none.
      reconstruction: of ``photo``.
      photo: whole, or a window.
      config: static.
    """
    if config.segmentation.features == "none":
        return []
    fitted, network = weights[NAME], networks.feature_network(config)

    def standardised(picture: Images) -> list[jax.Array]:
        maps = backbone.layers_of(network, fitted[backbone.NAME], photo.gain * picture)
        found = []
        for name, _ in networks.feature_maps(config):
            mean, deviation = (fitted[key][name][None, None, None] for key in ("mean", "deviation"))
            found.append((maps[name] - mean) / deviation)
        return found

    own = standardised(photo.image)
    if config.segmentation.compare == "photo":
        return own
    repaired = standardised(reconstruction.reconstruction)
    distance = [jnp.abs(a - b) for a, b in zip(own, repaired, strict=True)]
    if config.segmentation.compare == "distance":
        return distance
    return [jnp.concatenate(both, axis=-1) for both in zip(distance, own, strict=True)]


def _moments(weights: Weights, images: Photos, *, config: Config) -> dict:
    """For each photo and layer, the means of each channel and of its square, [b, c]."""
    image = to_float(images)
    seen = brightness.gain(weights, image, config=config) * image
    maps = backbone.layers_of(networks.feature_network(config), weights[backbone.NAME], seen)
    return {name: (jnp.mean(x, (1, 2)), jnp.mean(x * x, (1, 2))) for name, x in maps.items()}


def _shapes(config: Config) -> Params:
    maps, params = networks.feature_shapes(config)
    channels = {n: jax.ShapeDtypeStruct(x.shape[-1:], jnp.float32) for n, x in maps.items()}
    return {backbone.NAME: params, "mean": channels, "deviation": channels}


STAGE = Stage(
    name=NAME,
    sections=(fields.FEATURES,),
    pretrained=pretrained,
    fit=fit,
    fitted_shapes=_shapes,
)
