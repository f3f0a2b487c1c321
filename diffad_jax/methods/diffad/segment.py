"""From a photo and its defect-free version to logits: what stage 3 trains and the detector runs."""

import jax
import jax.numpy as jnp
import ml_collections

from diffad_jax.methods.diffad import brightness, networks
from diffad_jax.methods.diffad.reconstruct import Reconstruction


def segmenter_input(
    repaired: Reconstruction, image: jax.Array, *, config: ml_collections.FrozenConfigDict
) -> jax.Array:
    """concat(x_r, x_inter …, x): [b, h, w, 3] each in [0, 1] -> [b, h, w, 9] with one λ.

    All are seen times the photo's gain, see ``exposure``.

    ``config.segmentation.input = "differences"`` gives concat(4 (x_r − x), 4 (x_inter − x), 2x − 1)
    instead: the same information, of about unit scale, where what counts is not a small difference
    of large channels. It learns in a third of the steps; the published network sees the images.
    """
    gain = brightness.gain(image, config=config)
    interpolated = jnp.moveaxis(repaired.interpolated, 1, 0)
    repaired_images = [gain * x for x in (repaired.reconstruction, *interpolated)]
    image = gain * image
    if config.segmentation.input == "differences":
        repaired_images = [4.0 * (x - image) for x in repaired_images]
        image = 2.0 * image - 1.0
    return jnp.concatenate([*repaired_images, image], axis=-1)


def probabilities(
    weights: dict, repaired: Reconstruction, image: jax.Array, *,
    config: ml_collections.FrozenConfigDict,
) -> jax.Array:  # fmt: skip
    """[b, h, w] in [0, 1]: of each pixel, that it is anomalous; ``weights`` are the stages'."""
    return jax.nn.softmax(segment(weights["segmenter"], repaired, image, config=config))[..., 1]


def segment(
    weights: dict, repaired: Reconstruction, image: jax.Array, *,
    config: ml_collections.FrozenConfigDict,
) -> jax.Array:  # fmt: skip
    """Logits [b, h, w, 2] (normal, anomalous) by the trained segmenter."""
    inputs = segmenter_input(repaired, image, config=config)
    return networks.segmenter(config).apply(weights, inputs, train=False).astype(jnp.float32)
