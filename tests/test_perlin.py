"""Perlin noise against a textbook version."""

import numpy as np
import pytest
import tensorflow as tf

from configs import mvtec
from diffad_jax.data.perlin import anomaly_mask, perlin_noise


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


@pytest.mark.parametrize("powers", [(0, 0), (1, 3), (3, 2), (3, 3)])
def test_equals_the_textbook(powers):
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, (9, 9))
    got = perlin_noise(tf.constant(angles, tf.float32), tf.constant(powers), 32, 3)
    want = textbook(angles, [2**p for p in powers], 32)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_masks_are_binary_seeded_and_differ():
    config = mvtec.get_config().synthesis
    masks = [anomaly_mask(64, tf.constant([3, i]), config).numpy() for i in range(20)]
    assert all(set(np.unique(m)) <= {0.0, 1.0} and m.shape == (64, 64, 1) for m in masks)
    np.testing.assert_array_equal(masks[4], anomaly_mask(64, tf.constant([3, 4]), config))
    assert len({m.tobytes() for m in masks}) > 15
    assert 0.01 < np.mean(masks) < 0.4
