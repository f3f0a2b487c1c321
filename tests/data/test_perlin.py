"""Perlin noise against a textbook version."""

import numpy as np
import pytest
import tensorflow as tf

from diffad_jax.data import perlin
from diffad_jax.data.perlin import anomaly_noise, perlin_noise, perlin_window


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


@pytest.mark.parametrize("cells", [(1, 1), (2, 8), (16, 32)])
def test_a_window_that_is_not_turned_equals_the_textbook(cells):
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, (33, 33))
    middle = np.array(cells) / 2
    got = perlin_window(*(tf.constant(v, tf.float32) for v in (angles, cells, 0, middle)), size=32)
    np.testing.assert_allclose(got[..., 0], textbook(angles, cells, 32), atol=1e-4)


def test_a_window_turned_by_a_quarter_is_turned_by_a_quarter():
    angles = tf.random.stateless_uniform([9, 9], [1, 2], 0.0, 6.3)
    at = tf.constant([3.0, 4.0])
    straight, turned = (
        perlin_window(angles, tf.constant([2.0, 2.0]), tf.constant(d), at, size=33)[..., 0]
        for d in (0.0, 90.0)
    )
    # The grid begins at the edge of the photo, so that its middle is pixel 16.5.
    np.testing.assert_allclose(turned[1:, 1:], np.rot90(straight[1:, 1:]), atol=1e-4)


@pytest.mark.parametrize("endless", [False, True])
def test_mapped_equals_eager(endless):
    seeds = tf.range(12, dtype=tf.int64)[:, None] + [0, 5]
    mapped = tf.data.Dataset.from_tensor_slices(seeds).map(
        lambda s: anomaly_noise(32, s, endless=endless)
    )
    for seed, noise in zip(seeds, mapped, strict=True):
        np.testing.assert_array_equal(noise, anomaly_noise(32, seed, endless=endless))


def noises(count, size=32, endless=False, **constants):
    seeds = tf.data.Dataset.range(count).map(lambda i: tf.stack([i, i]))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(perlin, name, value)
        found = seeds.map(lambda s: anomaly_noise(size, s, endless=endless))
    return np.stack(list(found.as_numpy_iterator()))


def test_endless_noise_is_the_same_in_corners_and_in_the_middle():
    def share(where, endless):
        return (noises(1500, endless=endless)[:, where, where] > 0.3).mean()

    corner, middle = slice(0, 4), slice(14, 18)
    assert share(corner, True) == pytest.approx(share(middle, True), rel=0.15)
    assert share(corner, False) < 0.3 * share(middle, False)


def test_exponents_are_the_configured_ones():
    def edges(exponent):
        low_and_high = {"MIN_EXPONENT": exponent, "MAX_EXPONENT": exponent}
        return np.abs(np.diff(noises(20, 64, **low_and_high) > 0.5, axis=2)).mean()

    assert edges(1) < edges(2) < edges(4)


def test_rotation_fills_with_zero():
    """All that came from outside is 0; of what did not, half is below."""
    corners = noises(40, MAX_EXPONENT=2)[:, -1, -1]
    assert (corners > -1e-6).mean() > 0.85
