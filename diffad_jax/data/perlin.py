"""Perlin noise (Perlin 1985), which shapes DRAEM's anomalies, in stateless TensorFlow ops."""

import functools
import math

import numpy as np
import tensorflow as tf

from diffad_jax.data.geometry import between, rotate, uniform, whole_between

# As DRAEM's published code has them.
MIN_EXPONENT, MAX_EXPONENT = 0, 5  # periods are 2^k along each axis, k uniform, both included
ROTATION_DEGREES = 90.0  # of the noise, either way


def anomaly_noise(size: int, seed: tf.Tensor, *, endless: bool) -> tf.Tensor:
    """Perlin noise of random periods, rotated; an anomaly goes where it is above a threshold.

    Args:
      size: pixels of a side.
      seed: [2] int64.
      endless: the noise is a window of a plane, so anomalies are as frequent everywhere.

    Returns:
      [size, size, 1] float32, about -1 … 1. As published (not ``endless``) the noise has the frame
      of the photo. Rotation leaves zeros in corners, which get a fifth of the middle's anomalies.
    """
    points = 2**MAX_EXPONENT + 1
    u = uniform([5 + points**2], seed)
    powers = whole_between(u[:2], MIN_EXPONENT, MAX_EXPONENT)
    degrees = between(u[2], -ROTATION_DEGREES, ROTATION_DEGREES)
    angles = tf.reshape(2.0 * math.pi * u[3:-2], [points, points])
    if endless:
        cells = tf.cast(2**powers, tf.float32)
        return perlin_window(angles, cells, degrees, points * u[-2:], size=size)
    return rotate(perlin_noise(angles, powers, size, MAX_EXPONENT)[..., None], degrees)


# Compiled, as in geometry.py.
@tf.function(jit_compile=True, autograph=False)
def perlin_window(
    angles: tf.Tensor, cells: tf.Tensor, degrees: tf.Tensor, middle: tf.Tensor, *, size: int
) -> tf.Tensor:
    """A turned square of a plane of ``perlin_noise``, whose lattice of angles repeats.

    Args:
      angles: [n, n] float32, of the gradients, which repeat in both directions.
      cells: [2] float32, lattice cells along the square's sides.
      degrees: [] float32, by how much it is turned.
      middle: [2] float32, where on the lattice it lies.
      size: pixels of its side.

    Returns:
      [size, size, 1] float32.
    """
    n = angles.shape[0]
    turn = degrees * (math.pi / 180.0)
    along = tf.range(size, dtype=tf.float32) / size - 0.5
    y = middle[0] + cells[0] * (tf.cos(turn) * along[:, None] + tf.sin(turn) * along)
    x = middle[1] + cells[1] * (tf.cos(turn) * along - tf.sin(turn) * along[:, None])
    noise = tf.zeros([size, size])
    for row in (tf.floor(y), tf.floor(y) + 1.0):
        for column in (tf.floor(x), tf.floor(x) + 1.0):
            place = tf.math.floormod(row, n) * n + tf.math.floormod(column, n)
            angle = tf.gather(tf.reshape(angles, [-1]), tf.cast(place, tf.int32))
            near = _fade(1.0 - tf.abs(y - row)) * _fade(1.0 - tf.abs(x - column))
            noise += near * (tf.cos(angle) * (y - row) + tf.sin(angle) * (x - column))
    return math.sqrt(2.0) * noise[..., None]


def _fade(r):
    return 6 * r**5 - 15 * r**4 + 10 * r**3


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
        fade = _fade(r)
        near[power, rows, cell], along[power, rows, cell] = 1 - fade, (1 - fade) * r
        near[power, rows, cell + 1], along[power, rows, cell + 1] = fade, fade * (r - 1)
    return near.astype(np.float32), along.astype(np.float32)
