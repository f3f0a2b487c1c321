"""Filters of maps and pictures, and the score of a map."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffad_jax.types import AnomalyMaps, Array


def image_score(
    anomaly_map: AnomalyMaps, width: int = 21, power: float = 1.0
) -> Float[Array, " b"]:
    """The largest value of the map after ``power_mean_filter``.

    A width of 21 at 256 × 256 and a power of 1 are the published ones. Higher powers give more
    weight to the largest pixels.
    """
    return jnp.max(power_mean_filter(anomaly_map, width, power), axis=(1, 2))


def describe(width: int, power: float) -> str:
    """A description of ``image_score`` for readers of a report."""
    kind = "mean" if power == 1.0 else f"mean (power {power:g})"
    return f"the map's largest value after a {width} × {width} {kind} filter"


def power_mean_filter(anomaly_map: AnomalyMaps, width: int, power: float) -> AnomalyMaps:
    """(mean of mᵖ)^(1/p) around each pixel; zeros beyond the border count.

    A mean ranks a line below a faint patch of the filter's size. A maximum ranks that patch below
    any bright pixel. Powers in between rank both high.

    Args:
      anomaly_map: 0 or above.
      width: of the filter in pixels, odd and positive.
      power: p, 1 or above; 1 is the mean.

    Raises:
      ValueError: ``width`` is even or not positive.
    """
    if power == 1.0:
        return mean_filter(anomaly_map, width)
    return mean_filter(anomaly_map**power, width) ** (1.0 / power)


def mean_filter(anomaly_map: AnomalyMaps, width: int) -> AnomalyMaps:
    """The published rule: stride 1, zero padding of width // 2, every window divided by width².

    Raises:
      ValueError: ``width`` is even or not positive.
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"a mean filter's width is positive and must be odd, got {width}")
    total = _window_sums(_window_sums(anomaly_map, width, axis=1), width, axis=2)
    return total / width**2


def gaussian_filter(
    x: Float[Array, "b h w *c"], sigma: float, reach: int, *, mirrored: bool
) -> Float[Array, "b h w *c"]:
    """Blurs each picture by one matrix along each axis.

    Args:
      x: maps, with or without channels.
      sigma: of the Gaussian, in pixels.
      reach: in pixels; what is farther does not count.
      mirrored: beyond the border pixels are mirrored (SciPy's default); else zeros count.
    """
    rows, columns = (
        jnp.asarray(_gaussian_matrix(size, sigma, reach, mirrored)) for size in x.shape[1:3]
    )
    return jnp.einsum("ij,bjk...,lk->bil...", rows, x, columns, precision="highest")


def _gaussian_matrix(size: int, sigma: float, reach: int, mirrored: bool) -> np.ndarray:
    """[size, size] float32: row i holds the weights that make pixel i."""
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    places = np.arange(size)[:, None] + steps
    if mirrored:
        places = places % (2 * size)
        places = np.where(places >= size, 2 * size - 1 - places, places)
    inside = (places >= 0) & (places < size)
    matrix = np.zeros((size, size))
    places = np.arange(size)[:, None], places * inside
    np.add.at(matrix, places, inside * weights / weights.sum())
    return matrix.astype(np.float32)


def _window_sums(values: jax.Array, width: int, axis: int) -> jax.Array:
    """Sums along one axis: rows, then columns cost 2 × width additions a pixel, not width²."""
    window, padding = [1] * values.ndim, [(0, 0)] * values.ndim
    window[axis], padding[axis] = width, (width // 2, width // 2)
    return jax.lax.reduce_window(values, 0.0, jax.lax.add, window, [1] * values.ndim, padding)
