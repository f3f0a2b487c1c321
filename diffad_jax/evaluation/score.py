"""From a map to one score an image, as published."""

import jax
import jax.numpy as jnp


def image_score(anomaly_map: jax.Array, width: int = 21) -> jax.Array:
    """The largest value of the map after a mean filter; zeros beyond the border count.

    Args:
      anomaly_map: [b, h, w] float32.
      width: of the filter in pixels, odd and positive; 21 is the published one, at 256 × 256.

    Returns:
      [b] float32.

    Raises:
      ValueError: ``width`` is even or not positive.
    """
    return jnp.max(mean_filter(anomaly_map, width), axis=(1, 2))


def mean_filter(anomaly_map: jax.Array, width: int) -> jax.Array:
    """The published rule: stride 1, zero padding of width // 2, every window divided by width².

    Args:
      anomaly_map: [b, h, w] float32.
      width: in pixels, odd and positive.

    Returns:
      [b, h, w] float32.

    Raises:
      ValueError: ``width`` is even or not positive.
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"a mean filter's width is positive and must be odd, got {width}")
    total = _window_sums(_window_sums(anomaly_map, width, axis=1), width, axis=2)
    return total / width**2


def _window_sums(values: jax.Array, width: int, axis: int) -> jax.Array:
    """Sums along one axis: rows, then columns cost 2 × width additions a pixel, not width²."""
    window, padding = [1] * values.ndim, [(0, 0)] * values.ndim
    window[axis], padding[axis] = width, (width // 2, width // 2)
    return jax.lax.reduce_window(values, 0.0, jax.lax.add, window, [1] * values.ndim, padding)
