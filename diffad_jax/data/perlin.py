"""Perlin noise masks (Perlin 1985), as DRAEM shapes its anomalies. Stateless TensorFlow ops."""

import functools
import math

import ml_collections
import numpy as np
import tensorflow as tf

from diffad_jax.data.geometry import between, rotate, uniform, whole_between


def anomaly_noise(size: int, seed: tf.Tensor, config: ml_collections.ConfigDict) -> tf.Tensor:
    """Perlin noise of random periods, rotated; an anomaly goes where it is above a threshold.

    Args:
      size: pixels of a side.
      seed: [2] int64.
      config: ``config.synthesis``.

    Returns:
      [size, size, 1] float32, about -1 … 1; 0 where nothing was rotated to.
    """
    low, high = config.perlin_min_exponent, config.perlin_max_exponent
    points = 2**high + 1
    u = uniform([3 + points**2], seed)
    angles = tf.reshape(2.0 * math.pi * u[3:], [points, points])
    noise = perlin_noise(angles, whole_between(u[:2], low, high), size, high)[..., None]
    degrees = config.perlin_rotation_degrees
    return rotate(noise, between(u[2], -degrees, degrees))


def perlin_noise(angles: tf.Tensor, powers: tf.Tensor, size: int, max_power: int) -> tf.Tensor:
    """Perlin noise scaled by √2, from the angles of its gradients.

    The noise at (y, x) is Σ_ij w(y, i) w(x, j) (cos a_ij (y − i) + sin a_ij (x − j)) with w the
    quintic fade to the two nearest lattice points: matrix products with tables that depend on the
    period alone.

    Args:
      angles: [n + 1, n + 1] float32 with n = 2^max_power; finer periods use more of them.
      powers: [2] int32: 2^powers lattice cells down and across.
      size: pixels of a side.
      max_power: largest power.

    Returns:
      [size, size] float32.
    """
    near, along = (tf.constant(table) for table in fade_tables(size, max_power))
    rows, columns = tf.unstack(2**powers + 1)
    angles = angles[:rows, :columns]
    down = along[powers[0], :, :rows] @ tf.cos(angles)
    across = near[powers[0], :, :rows] @ tf.sin(angles)
    tables = tf.concat([near[powers[1], :, :columns], along[powers[1], :, :columns]], axis=1)
    noise = tf.matmul(tf.concat([down, across], axis=1), tables, transpose_b=True)
    return math.sqrt(2.0) * tf.ensure_shape(noise, (size, size))


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
