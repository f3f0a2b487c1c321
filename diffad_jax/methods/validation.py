"""Metrics that the validations of several stages share."""

import jax.numpy as jnp
from jaxtyping import Float

from diffad_jax.types import AnomalyMaps, Array, Images


def psnr(
    image: Images, other: Images, where: Float[Array, "b h w 1"] | None = None
) -> Float[Array, ""]:
    """Peak signal-to-noise ratio in dB, peak 1, over the whole batch.

    ``where`` is 1 for pixels that count; None: all.
    """
    squares = (image - other) ** 2
    if where is None:
        return -10.0 * jnp.log10(jnp.mean(squares))
    return -10.0 * jnp.log10(jnp.sum(where * squares) / (3.0 * jnp.sum(where)))


def average_precision(
    mask: AnomalyMaps, probability: AnomalyMaps, bins: int = 1000
) -> Float[Array, ""]:
    """Pixel average precision, by equal bins of a map in [0, 1]."""
    index = jnp.clip((probability * bins).astype(jnp.int32), 0, bins - 1).ravel()
    hits = jnp.zeros(bins).at[index].add(mask.ravel())[::-1]
    alarms = jnp.zeros(bins).at[index].add(1.0)[::-1]
    precision = jnp.cumsum(hits) / jnp.maximum(jnp.cumsum(alarms), 1.0)
    return jnp.sum(precision * hits) / jnp.sum(mask)


def grey(values: AnomalyMaps) -> Images:
    """A map as a picture."""
    return jnp.repeat(values[..., None], 3, axis=-1)
