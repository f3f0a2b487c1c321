"""DRAEM's synthetic anomalies (Zavrtanik et al., ICCV 2021): photo + texture + seed -> example."""

import ml_collections
import numpy as np
import tensorflow as tf

from diffad_jax.data.augment import augment
from diffad_jax.data.geometry import between, rotate, stream, uniform, whole_between
from diffad_jax.data.perlin import anomaly_noise
from diffad_jax.data.textures import TextureSource

JUST_SEEN = 4  # of 255
# As DRAEM's published code has them.
ROTATION_DEGREES = 90.0  # of the photo, either way
NOISE_THRESHOLD = 0.5  # Perlin noise above it is anomalous


def synthesize(
    image: tf.Tensor, source: TextureSource, seed: tf.Tensor, config: ml_collections.ConfigDict
) -> dict[str, tf.Tensor]:
    """One training example: x_a = (1 − m) x + m ((1 − β) texture + β x).

    - With ``max_light_change`` the photo x is first put under other light, which is normal.
    - With ``normal_probability`` an example stays normal. So does one whose mask is empty (a soft
      shade may then show, by less than half).
    - With ``own_texture_probability`` the texture is the photo itself, moved and turned (as in
      MemSeg, Yang et al. 2022).
    - With ``shade_probability`` the texture is the photo in its place, darker or brighter by a
      factor. Then β is 0. A shade has a threshold of its own, so it may be larger than other
      anomalies. Across its edge m rises from 0 to 1. ``anomaly_mask`` ends where m is half, and
      where nobody can see the shade, as on white that was to get brighter.
    - With ``grey_as_photo`` the texture is grey wherever the photo is. Otherwise colour alone tells
      an anomaly from a grey photo.

    Args:
      image: [h, w, 3] uint8, a normal photo.
      source: where textures come from.
      seed: [2] int64, the first below 2^38; the example depends on nothing else.
      config: ``config.synthesis``.

    Returns:
      image, augmented_image and texture [h, w, 3] uint8; anomaly_mask [h, w, 1] uint8 in {0, 1}.
    """
    height, width, _ = image.shape
    turns, turn, stays, opacity, kind = tf.unstack(uniform([5], seed))
    own = config.own_texture_probability
    degrees = between(turn, -ROTATION_DEGREES, ROTATION_DEGREES)
    image = tf.cond(
        turns < config.rotation_probability,
        lambda: tf.cast(rotate(image, degrees, rounded=True), tf.uint8),
        lambda: image,
    )
    if config.max_light_change:
        image = _lit(image, stream(seed, 8), config.max_light_change)

    def shaded() -> tuple[tf.Tensor, ...]:
        return _shaded(image, stream(seed, 6), config), 0.0, *_edge(stream(seed, 7), config)

    def foreign() -> tuple[tf.Tensor, ...]:
        texture = tf.cond(
            kind < own, lambda: _moved(image, stream(seed, 5)), lambda: source(stream(seed, 1))
        )
        texture = augment(tf.ensure_shape(texture, image.shape), stream(seed, 2))
        if config.grey_as_photo:
            texture = tf.cond(_is_grey(image), lambda: _luma(texture), lambda: texture)
        return texture, between(opacity, 0.0, config.max_beta), NOISE_THRESHOLD, 0.0

    def anomalous() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        noise = _noise(height, width, stream(seed, 3), config.perlin_endless)
        shade = (kind >= own) & (kind < own + config.shade_probability)
        texture, beta, threshold, softness = tf.cond(shade, shaded, foreign)
        augmented = blend(image, texture, _onset(noise, threshold, softness), beta)
        # Other anomalies keep the whole mask, as published: they seldom look like the photo.
        mask = (noise > threshold) & (_differ(image, augmented) | ~shade)
        return augmented, tf.cast(mask, tf.uint8), tf.cast(texture, tf.uint8)

    def normal() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return image, tf.zeros([height, width, 1], tf.uint8), tf.zeros_like(image)

    augmented, mask, texture = tf.cond(stays < config.normal_probability, normal, anomalous)
    example = {
        "image": image, "augmented_image": augmented, "anomaly_mask": mask, "texture": texture
    }  # fmt: skip
    return {
        k: tf.ensure_shape(v, (height, width, 1 if k == "anomaly_mask" else 3))
        for k, v in example.items()
    }


def _noise(height: int, width: int, seed: tf.Tensor, endless: bool) -> tf.Tensor:
    """[h, w, 1], cut from the middle of a square, so that blobs are as wide as high."""
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    noise = anomaly_noise(side, seed, endless=endless)
    return noise[top : top + height, left : left + width]


def _moved(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """[h, w, 3] uint8 -> float32: shifted with wrap-around, perhaps mirrored and, of a square,
    transposed."""
    u = uniform([5], seed)
    height, width, _ = image.shape
    image = tf.roll(image, whole_between(u[:2], 0, np.array([height, width]) - 1), axis=[0, 1])
    if height == width:
        image = tf.cond(u[2] < 0.5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(u[3] < 0.5, lambda: image[::-1], lambda: image)
    image = tf.cond(u[4] < 0.5, lambda: image[:, ::-1], lambda: image)
    return tf.cast(image, tf.float32)


def _lit(image: tf.Tensor, seed: tf.Tensor, most: float) -> tf.Tensor:
    """[h, w, 3] uint8: brighter or darker by up to ``most``, and as much from middle to edge."""
    u = between(uniform([3], seed), -most, most)
    down, across = (tf.linspace(-1.0, 1.0, n) for n in image.shape[:2])
    gain = (1.0 + u[0]) * (1.0 + u[1] * down[:, None, None] + u[2] * across[:, None])
    return tf.cast(_times(gain, image), tf.uint8)


def _shaded(image: tf.Tensor, seed: tf.Tensor, config: ml_collections.ConfigDict) -> tf.Tensor:
    """[h, w, 3] uint8 -> float32: times f or 1 / f, whole values in 0 … 255."""
    u = uniform([2], seed)
    factor = between(u[0], *config.shade_range)
    factor = tf.where(u[1] < 0.5, factor, 1.0 / factor)
    return _times(factor, image)


def _differ(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """[h, w, 3] uint8 each -> [h, w, 1] bool: whether one channel differs enough to be seen."""
    difference = tf.abs(tf.cast(a, tf.int32) - tf.cast(b, tf.int32))
    return tf.reduce_max(difference, axis=-1, keepdims=True) > JUST_SEEN


def _times(gain: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    return tf.minimum(tf.round(gain * tf.cast(image, tf.float32)), 255.0)


def _edge(seed: tf.Tensor, config: ml_collections.ConfigDict) -> tuple[tf.Tensor, tf.Tensor]:
    """The noise around which shading sets in, and the range of noise over which it does."""
    u = uniform([2], seed)
    return between(u[0], *config.shade_threshold_range), between(u[1], 0.0, config.shade_softness)


def _onset(noise: tf.Tensor, threshold: tf.Tensor, softness: tf.Tensor) -> tf.Tensor:
    """[h, w, 1] in 0 … 1: a step at the threshold, or a ramp across it."""
    ramp = tf.clip_by_value((noise - threshold) / softness + 0.5, 0.0, 1.0)
    return tf.where(softness > 0.0, ramp, tf.cast(noise > threshold, tf.float32))


def _is_grey(image: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all(image == image[..., :1])


def _luma(x: tf.Tensor) -> tf.Tensor:
    """ITU-R 601, rounded, in all three channels."""
    return tf.round(tf.linalg.matmul(x, np.outer([0.299, 0.587, 0.114], np.ones(3)).astype("f4")))


# Compiled, as in geometry.py: one loop instead of eight.
@tf.function(jit_compile=True, autograph=False)
def blend(image: tf.Tensor, texture: tf.Tensor, mask: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    """(1 − m) x + m ((1 − β) texture + β x), rounded.

    Args:
      image: [h, w, 3] uint8.
      texture: [h, w, 3] float32 in 0 … 255.
      mask: [h, w, 1] float32 in 0 … 1.
      beta: [] float32.

    Returns:
      [h, w, 3] uint8.
    """
    x = tf.cast(image, tf.float32)
    mixed = tf.round((1.0 - beta) * texture + beta * x)
    # A product of matrices, because broadcasting a plane to three channels takes twice as long.
    where = tf.linalg.matmul(mask, tf.ones([1, 3]))
    return tf.cast(x + where * (mixed - x), tf.uint8)
