"""Perlin noise masks (Perlin 1985), as DRAEM shapes its anomalies. Stateless TensorFlow ops."""

import functools
import math

import ml_collections
import numpy as np
import tensorflow as tf

from diffad_jax.data.geometry import rotate, uniform


def anomaly_mask(size: int, seed: tf.Tensor, config: ml_collections.ConfigDict) -> tf.Tensor:
    """Where an anomaly goes: Perlin noise of random periods, rotated, above a threshold.

    Args:
      size: pixels of a side.
      seed: [2] int32 or int64.
      config: ``config.synthesis``.

    Returns:
      [size, size, 1] float32 in {0, 1}.
    """
    seeds = tf.random.split(seed, 3)
    low, high = config.perlin_min_exponent, config.perlin_max_exponent
    powers = tf.random.stateless_uniform([2], seeds[0], low, high + 1, tf.int32)
    points = 2**high + 1
    angles = uniform([points, points], seeds[1], 0.0, 2.0 * math.pi)
    noise = perlin_noise(angles, powers, size, high)[..., None]
    degrees = config.perlin_rotation_degrees
    turned = rotate(noise, uniform([], seeds[2], -degrees, degrees))
    return tf.cast(turned > config.perlin_threshold, tf.float32)


def perlin_noise(angles: tf.Tensor, powers: tf.Tensor, size: int, max_power: int) -> tf.Tensor:
    """Perlin noise scaled by √2, from the angles of its gradients.

    The noise at (y, x) is Σ_ij w(y, i) w(x, j) (cos a_ij (y − i) + sin a_ij (x − j)) with w the
    quintic fade to the two nearest lattice points: two matrix products with tables that depend on
    the period alone, so that shapes are static whatever the period.

    Args:
      angles: [n + 1, n + 1] float32 with n = 2^max_power; finer periods use more of them.
      powers: [2] int32: 2^powers lattice cells down and across.
      size: pixels of a side.
      max_power: largest power.

    Returns:
      [size, size] float32.
    """
    near, along = (tf.gather(table, powers) for table in fade_tables(size, max_power))
    down = tf.matmul(along[0] @ tf.cos(angles), near[1], transpose_b=True)
    across = tf.matmul(near[0] @ tf.sin(angles), along[1], transpose_b=True)
    return math.sqrt(2.0) * (down + across)


@functools.cache
def fade_tables(size: int, max_power: int) -> tuple[np.ndarray, np.ndarray]:
    """w(y, i) and w(y, i) (y − i) of each power: [max_power + 1, size, 2^max_power + 1]."""
    shape = (max_power + 1, size, 2**max_power + 1)
    near, along = np.zeros(shape), np.zeros(shape)
    rows = np.arange(size)
    for power in range(max_power + 1):
        place = rows * 2**power / size
        cell = np.floor(place).astype(int)
        r = place - cell
        fade = 6 * r**5 - 15 * r**4 + 10 * r**3
        near[power, rows, cell], along[power, rows, cell] = 1 - fade, (1 - fade) * r
        near[power, rows, cell + 1], along[power, rows, cell + 1] = fade, fade * (r - 1)
    return near.astype(np.float32), along.astype(np.float32)
