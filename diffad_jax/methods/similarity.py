"""Similarity of two images at each place: SSIM, and gradient magnitudes at four scales."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from diffad_jax.methods import filters
from diffad_jax.types import Array, FeatureMaps

_WINDOW, _SIGMA = 11, 1.5  # of SSIM's Gaussian, in pixels
_C1, _C2 = 0.01**2, 0.03**2  # of SSIM, for images in [0, 1]
_C = 0.0026  # of the gradient magnitudes (Xue et al., IEEE TIP 2014)
_SCALES = 4


def ssim(image: FeatureMaps, other: FeatureMaps) -> FeatureMaps:
    """Structural similarity of each channel of two images in [0, 1], at most 1.

    Wang et al., IEEE TIP 2004, eq. 13. The window is a Gaussian of 11 pixels, σ = 1.5; zeros beyond
    the border count, as in the published code of DRAEM and RIAD.
    """
    mean, other_mean = _blurred(image), _blurred(other)
    variance = _blurred(image**2) - mean**2
    other_variance = _blurred(other**2) - other_mean**2
    covariance = _blurred(image * other) - mean * other_mean
    luminance = (2.0 * mean * other_mean + _C1) / (mean**2 + other_mean**2 + _C1)
    return luminance * (2.0 * covariance + _C2) / (variance + other_variance + _C2)


def gradient_similarities(image: FeatureMaps, other: FeatureMaps) -> list[Float[Array, "b _ _"]]:
    """Gradient magnitude similarity at four scales, each half as large (RIAD, eqs. 3 and 4).

    The magnitude is that of Prewitt's operator on the mean of the channels. Pixels at the border
    continue beyond it.

    Args:
      image, other: in [0, 1]; h and w are multiples of 8.

    Returns:
      Four maps in [0, 1], of h × w, h/2 × w/2 … positions.
    """
    a, b = jnp.mean(image, axis=-1), jnp.mean(other, axis=-1)
    maps = []
    for scale in range(_SCALES):
        if scale > 0:
            a, b = _halved(a), _halved(b)
        g, h = _gradient_magnitude(a), _gradient_magnitude(b)
        maps.append((2.0 * g * h + _C) / (g**2 + h**2 + _C))
    return maps


def _blurred(x: jax.Array) -> jax.Array:
    """[b, h, w, c], zeros beyond the border."""
    return filters.gaussian_filter(x, _SIGMA, _WINDOW // 2, mirrored=False)


def _gradient_magnitude(x: jax.Array) -> jax.Array:
    """[b, h, w], each sum of three differences divided by 3."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = padded[:, :, 2:] - padded[:, :, :-2]
    down = padded[:, 2:] - padded[:, :-2]
    across = (across[:, :-2] + across[:, 1:-1] + across[:, 2:]) / 3.0
    down = (down[:, :, :-2] + down[:, :, 1:-1] + down[:, :, 2:]) / 3.0
    return jnp.sqrt(across**2 + down**2 + 1e-12)  # the root's slope at 0 is infinite


def _halved(x: jax.Array) -> jax.Array:
    b, h, w = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2).mean(axis=(2, 4))
