"""Perlin noise against a textbook version."""

import numpy as np
import pytest
import tensorflow as tf

from configs import mvtec
from diffad_jax.data.perlin import anomaly_noise, perlin_noise


def textbook(angles, cells, size):
    """Perlin noise, point by point: fade-weighted dot products with the four corners' gradients."""
    noise = np.zeros((size, size))
    for y in range(size):
        for x in range(size):
            fy, fx = y * cells[0] / size, x * cells[1] / size
            i, j = int(fy), int(fx)
            total = 0.0
            for di in (0, 1):
                for dj in (0, 1):
                    ry, rx = fy - i - di, fx - j - dj
                    fade = [6 * abs(r) ** 5 - 15 * abs(r) ** 4 + 10 * abs(r) ** 3 for r in (ry, rx)]
                    weight = (1 - fade[0]) * (1 - fade[1])
                    a = angles[i + di, j + dj]
                    total += weight * (np.cos(a) * ry + np.sin(a) * rx)
            noise[y, x] = np.sqrt(2) * total
    return noise


@pytest.mark.parametrize("size", [32, 50])
@pytest.mark.parametrize("powers", [(0, 0), (1, 3), (3, 2), (3, 3), (5, 0), (4, 5)])
def test_equals_the_textbook(powers, size):
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, (33, 33))
    got = perlin_noise(tf.constant(angles, tf.float32), tf.constant(powers), size, 5)
    want = textbook(angles, [2**p for p in powers], size)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_mapped_equals_eager():
    config = mvtec.get_config().synthesis
    seeds = tf.range(12, dtype=tf.int64)[:, None] + [0, 5]
    mapped = tf.data.Dataset.from_tensor_slices(seeds).map(lambda s: anomaly_noise(32, s, config))
    for seed, noise in zip(seeds, mapped, strict=True):
        np.testing.assert_array_equal(noise, anomaly_noise(32, seed, config))


def noises(count, size=32, **settings):
    config = mvtec.get_config().synthesis
    config.update(settings)
    seeds = tf.data.Dataset.range(count).map(lambda i: tf.stack([i, i]))
    return np.stack(list(seeds.map(lambda s: anomaly_noise(size, s, config)).as_numpy_iterator()))


def test_exponents_are_the_configured_ones():
    def edges(exponent):
        low_and_high = {"perlin_min_exponent": exponent, "perlin_max_exponent": exponent}
        return np.abs(np.diff(noises(20, 64, **low_and_high) > 0.5, axis=2)).mean()

    assert edges(1) < edges(2) < edges(4)


def test_rotation_fills_with_zero():
    """All that came from outside is 0; of what did not, half is below."""
    corners = noises(40, perlin_max_exponent=2)[:, -1, -1]
    assert (corners > -1e-6).mean() > 0.85
