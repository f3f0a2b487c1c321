"""Draws and rotations that the synthesis shares."""

import tensorflow as tf


def uniform(shape: list[int], seed: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Stateless uniform float32 in [low, high)."""
    return tf.random.stateless_uniform(shape, seed, low, high)


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Turns an image about its centre, bilinear; what comes from outside is 0.

    Args:
      image: [h, w, c] float32.
      degrees: [] float32, counter-clockwise.

    Returns:
      [h, w, c] float32.
    """
    height, width = image.shape[:2]
    angle = degrees * (3.141592653589793 / 180.0)
    cos, sin = tf.cos(angle), tf.sin(angle)
    cy, cx = (height - 1) / 2.0, (width - 1) / 2.0
    zero = tf.zeros([])
    # Output (x, y) is taken from (a0 x + a1 y + a2, b0 x + b1 y + b2).
    transform = [
        cos,
        -sin,
        cx - cos * cx + sin * cy,
        sin,
        cos,
        cy - sin * cx - cos * cy,
        zero,
        zero,
    ]
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack(transform)[None],
        output_shape=[height, width],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )
    return tf.ensure_shape(turned[0], image.shape)
