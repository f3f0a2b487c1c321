"""Windows of a photo in place of the whole, where ``autoencoder.window`` is set; not in the paper.

Networks of a given size then see a photo at more pixels: defects that are a pixel wide on the whole
photo are wider. What they no longer see is the rest of the product, which only the memory and the
level of normal photos know. Training draws a window of each example. Prediction lays windows over
the photo and blends their maps. A photo's light is always that of the whole.
"""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Float

from diffad_jax.methods.diffad import brightness, networks
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.methods.train_state import Weights
from diffad_jax.methods.windows import starts, weights
from diffad_jax.types import Array, Batch, height_width, to_float

Config = ml_collections.FrozenConfigDict
_PICTURES = ("image", "augmented_image", "anomaly_mask")
_STREAM = 1  # of random numbers, beside those of a training step


def drawn(
    earlier_weights: Weights, batch: Batch, name: str, key: jax.Array, *, config: Config
) -> tuple[Batch, Float[Array, "b 1 1 1"]]:
    """The batch that a training step sees, and the gain of its whole photos.

    Args:
      earlier_weights: of the stage ``light``.
      batch: of whole photos.
      name: of the pictures whose gain it is.
      key: of the step.
      config: static.
    """
    gain = brightness.gain(earlier_weights, to_float(batch[name]), config=config)
    if not config.autoencoder.window:
        return batch, gain
    number, height, width, _ = batch["image"].shape
    seen = networks.seen_size(config)
    keys = jax.random.split(jax.random.fold_in(key, _STREAM))
    corners = [
        jax.random.randint(key, (number,), 0, side - window + 1)
        for key, side, window in zip(keys, (height, width), seen, strict=True)
    ]

    def of_example(picture: jax.Array, top: jax.Array, left: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(picture, (top, left, 0), (*seen, picture.shape[-1]))

    cut = {name: jax.vmap(of_example)(batch[name], *corners) for name in _PICTURES}
    return batch | cut, gain


def cut(photo: Exposed, *, config: Config) -> Exposed:
    """All k windows of each photo, a photo's beside each other: b k in all."""
    if not config.autoencoder.window:
        return photo
    height, width = networks.seen_size(config)
    rows, columns = _starts(config)
    windows = [
        photo.image[:, top : top + height, left : left + width] for top in rows for left in columns
    ]
    beside = jnp.stack(windows, 1).reshape(-1, height, width, photo.image.shape[-1])
    return Exposed(beside, jnp.repeat(photo.gain, len(windows), 0))


def joined(found: Float[Array, "bk _ _ *c"], *, config: Config) -> Float[Array, "b _ _ *c"]:
    """The blend of what was found in all windows."""
    if not config.autoencoder.window:
        return found
    rows, columns = _starts(config)
    found = found.reshape(-1, len(rows), len(columns), *found.shape[1:])
    down, across = (
        _placed(length, side)
        for length, side in zip(
            height_width(config.image_size), networks.seen_size(config), strict=True
        )
    )
    # Products with matrices: exported graphs add nothing in place.
    half = jnp.einsum("brchw...,rhy->bcyw...", found, down, precision="highest")
    return jnp.einsum("bcyw...,cwx->byx...", half, across, precision="highest")


def _starts(config: Config) -> tuple[list[int], list[int]]:
    sizes = zip(height_width(config.image_size), networks.seen_size(config), strict=True)
    down, across = (starts(length, side) for length, side in sizes)
    return down, across


def _placed(length: int, side: int) -> np.ndarray:
    """[k, side, length] float32: the weight of a window's pixel at a pixel of the photo."""
    begins = starts(length, side)
    found = np.zeros((len(begins), side, length), np.float32)
    for i, (start, weight) in enumerate(zip(begins, weights(length, side, begins), strict=True)):
        found[i, np.arange(side), start + np.arange(side)] = weight
    return found
