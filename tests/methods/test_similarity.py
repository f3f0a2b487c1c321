"""Similarity maps against SciPy's filters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal

from diffad_jax.methods import similarity

RNG = np.random.default_rng(0)
IMAGE = RNG.random((2, 16, 24, 3)).astype(np.float32)
OTHER = np.clip(IMAGE + 0.2 * RNG.standard_normal(IMAGE.shape), 0, 1).astype(np.float32)


def plain_ssim(a, b):
    """Of one channel, by two-dimensional convolutions in float64."""
    g = signal.windows.gaussian(11, 1.5)
    window = np.outer(g, g) / np.outer(g, g).sum()

    def mean(x):
        return ndimage.convolve(x, window, mode="constant")

    a, b = a.astype(np.float64), b.astype(np.float64)
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    return ((2 * ma * mb + 1e-4) * (2 * cov + 9e-4)) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))


def plain_gradient_similarity(a, b):
    def magnitude(x):
        return np.hypot(*(ndimage.prewitt(x, axis=i, mode="nearest") / 3 for i in (0, 1)))

    g, h = magnitude(a), magnitude(b)
    return (2 * g * h + 0.0026) / (g**2 + h**2 + 0.0026)


def test_ssim_is_that_of_the_formula():
    ours = similarity.ssim(jnp.asarray(IMAGE), jnp.asarray(OTHER))
    for i, c in np.ndindex(2, 3):
        theirs = plain_ssim(IMAGE[i, ..., c], OTHER[i, ..., c])
        np.testing.assert_allclose(ours[i, ..., c], theirs, atol=2e-5)


def test_gradient_similarity_is_that_of_prewitts_operator_at_each_scale():
    ours = similarity.gradient_similarities(jnp.asarray(IMAGE), jnp.asarray(OTHER))
    a, b = (x.astype(np.float64).mean(-1) for x in (IMAGE, OTHER))
    assert [x.shape for x in ours] == [(2, 16, 24), (2, 8, 12), (2, 4, 6), (2, 2, 3)]
    for scale, found in enumerate(ours):
        n = 2**scale
        c, d = (x.reshape(2, 16 // n, n, 24 // n, n).mean((2, 4)) for x in (a, b))
        for i in range(2):
            np.testing.assert_allclose(found[i], plain_gradient_similarity(c[i], d[i]), atol=1e-5)


def test_equal_images_are_alike_everywhere():
    image = jnp.asarray(IMAGE)
    np.testing.assert_allclose(similarity.ssim(image, image), 1.0, atol=1e-4)
    for found in similarity.gradient_similarities(image, image):
        np.testing.assert_allclose(found, 1.0, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_gradients_are_finite_on_a_flat_image(level):
    def reconstruction_loss(x):
        scales = similarity.gradient_similarities(x, jnp.asarray(IMAGE))
        return -sum(jnp.mean(s) for s in scales) - jnp.mean(similarity.ssim(x, jnp.asarray(IMAGE)))

    assert np.isfinite(jax.jit(jax.grad(reconstruction_loss))(jnp.full(IMAGE.shape, level))).all()
