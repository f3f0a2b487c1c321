"""Metrics that the validations of several stages share."""

import jax
import jax.numpy as jnp


def psnr(image: jax.Array, other: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Peak signal-to-noise ratio in dB, peak 1, over the whole batch.

    Args:
      image, other: [b, h, w, 3] float32 in [0, 1].
      where: [b, h, w, 1], 1 for pixels that count; None: all.
    """
    squares = (image - other) ** 2
    if where is None:
        return -10.0 * jnp.log10(jnp.mean(squares))
    return -10.0 * jnp.log10(jnp.sum(where * squares) / (3.0 * jnp.sum(where)))


def average_precision(mask: jax.Array, probability: jax.Array, bins: int = 1000) -> jax.Array:
    """Pixel average precision, by equal bins of the map: two [b, h, w] in [0, 1] -> []."""
    index = jnp.clip((probability * bins).astype(jnp.int32), 0, bins - 1).ravel()
    hits = jnp.zeros(bins).at[index].add(mask.ravel())[::-1]
    alarms = jnp.zeros(bins).at[index].add(1.0)[::-1]
    precision = jnp.cumsum(hits) / jnp.maximum(jnp.cumsum(alarms), 1.0)
    return jnp.sum(precision * hits) / jnp.sum(mask)


def grey(values: jax.Array) -> jax.Array:
    """[b, h, w] -> [b, h, w, 3]."""
    return jnp.repeat(values[..., None], 3, axis=-1)
