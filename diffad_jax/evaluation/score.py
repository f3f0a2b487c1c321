"""From a map to one score an image, as published."""

import jax
import jax.numpy as jnp


def image_score(anomaly_map: jax.Array, width: int) -> jax.Array:
    """The largest value of the map after a mean filter; zeros beyond the border count.

    Args:
      anomaly_map: [b, h, w] float32.
      width: of the filter in pixels, odd; the paper's code takes 21 at 256 × 256.

    Returns:
      [b] float32.

    Raises:
      ValueError: ``width`` is even.
    """
    if width % 2 == 0:
        raise ValueError(f"the mean filter's width must be odd, got {width}")
    margin = width // 2
    padding = ((0, 0), (margin, margin), (margin, margin))
    total = jax.lax.reduce_window(
        anomaly_map, 0.0, jax.lax.add, (1, width, width), (1, 1, 1), padding
    )
    return jnp.max(total, axis=(1, 2)) / width**2
