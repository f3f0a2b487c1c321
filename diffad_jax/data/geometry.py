"""Draws and rotations that the synthesis shares.

A random op of TensorFlow costs about 15 µs however few numbers it draws. So a step of the synthesis
draws all its numbers in one op.
"""

import math

import numpy as np
import tensorflow as tf


def stream(seed: tf.Tensor, number: int) -> tf.Tensor:
    """The seed of an independent stream of draws under ``seed``, [2] int64; costs no time.

    Streams of the same number under different seeds differ, and so do those of different numbers,
    as long as seed[0] stays below 2^40.
    """
    return seed + tf.constant([number << 40, 0], tf.int64)


def uniform(shape: list[int], seed: tf.Tensor, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """Stateless uniform float32 in [low, high)."""
    return tf.random.stateless_uniform(shape, seed, low, high)


def between(u: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """U(0, 1) to U(low, high)."""
    return low + (high - low) * u


def whole_between(u: tf.Tensor, low: int, high: int | np.ndarray) -> tf.Tensor:
    """U(0, 1) to a whole number, int32, from low to high, both included, equally often."""
    # float32 may round up to high + 1.
    return tf.minimum(tf.cast(between(u, low, high + 1), tf.int32), high)


# Compiled: six times as quick as tf.raw_ops.ImageProjectiveTransformV3 on three channels.
@tf.function(jit_compile=True, autograph=False)
def rotate(image: tf.Tensor, degrees: tf.Tensor, rounded: bool = False) -> tf.Tensor:
    """Turns an image about its centre, bilinear; pixels from outside are 0.

    Args:
      image: [h, w, c] float32 or uint8.
      degrees: [] float32, counter-clockwise.
      rounded: whether to round to whole levels, which costs nothing here.

    Returns:
      [h, w, c] float32.
    """
    height, width, channels = image.shape
    image = tf.cast(image, tf.float32)
    angle = degrees * (math.pi / 180.0)
    x = tf.range(width, dtype=tf.float32)[None, :] - (width - 1) / 2.0
    y = tf.range(height, dtype=tf.float32)[:, None] - (height - 1) / 2.0
    from_x = tf.cos(angle) * x - tf.sin(angle) * y + (width - 1) / 2.0
    from_y = tf.sin(angle) * x + tf.cos(angle) * y + (height - 1) / 2.0
    left, top = tf.floor(from_x), tf.floor(from_y)
    flat = tf.reshape(image, [height * width, channels])
    turned = tf.zeros_like(image)
    for column in (left, left + 1.0):
        for row in (top, top + 1.0):
            near = (1.0 - tf.abs(from_x - column)) * (1.0 - tf.abs(from_y - row))
            inside = (column >= 0.0) & (column < width) & (row >= 0.0) & (row < height)
            place = tf.clip_by_value(row, 0.0, height - 1.0) * width
            place += tf.clip_by_value(column, 0.0, width - 1.0)
            pixels = tf.gather(flat, tf.cast(place, tf.int32))
            turned += tf.where(inside, near, 0.0)[..., None] * pixels
    return tf.round(turned) if rounded else turned
