"""From a photo and its defect-free version to logits, for stage 3 and for the detector."""

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Float, Float32

from diffad_jax.methods.diffad import features, networks
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.methods.diffad.reconstruct import Reconstruction
from diffad_jax.types import AnomalyMaps, Array


def segmenter_input(
    reconstruction: Reconstruction, photo: Exposed, *, config: ml_collections.FrozenConfigDict
) -> Float[Array, "b h w c"]:
    """concat(x_r, x_inter …, x), each in [0, 1]: nine channels with one λ.

    All are multiplied by the photo's gain, see ``brightness``.

    The published network sees the images. ``config.segmentation.input = "differences"`` gives
    concat(4 (x_r − x), 4 (x_inter − x), 2x − 1) instead: the same information at about unit scale,
    not as small differences of large channels. With it the segmenter learns in a third of the
    steps.
    """
    interpolated = jnp.moveaxis(reconstruction.interpolated, 1, 0)
    reconstructions = [photo.gain * x for x in (reconstruction.reconstruction, *interpolated)]
    image = photo.seen
    if config.segmentation.input == "differences":
        reconstructions = [4.0 * (x - image) for x in reconstructions]
        image = 2.0 * image - 1.0
    return jnp.concatenate([*reconstructions, image], axis=-1)


def probabilities(
    weights: dict, reconstruction: Reconstruction, photo: Exposed, *,
    config: ml_collections.FrozenConfigDict,
) -> AnomalyMaps:  # fmt: skip
    """The probability of an anomaly; arguments as for ``segment``."""
    return jax.nn.softmax(segment(weights, reconstruction, photo, config=config))[..., 1]


def segment(
    weights: dict, reconstruction: Reconstruction, photo: Exposed, *,
    config: ml_collections.FrozenConfigDict,
) -> Float32[Array, "b h w 2"]:  # fmt: skip
    """Logits of normal and anomalous; ``weights`` are those of all stages."""
    inputs = segmenter_input(reconstruction, photo, config=config)
    maps = features.compared(weights, reconstruction, photo, config=config)
    network = networks.segmenter(config)
    return network.apply(weights["segmenter"], inputs, maps, train=False).astype(jnp.float32)
