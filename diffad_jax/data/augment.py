"""The ten ways in which DRAEM changes a texture; three of them, in random order, each time.

Every op is [s, s, 3] float32 with whole values in 0 … 255 -> the same; stateless, so that the same
seed gives the same texture. Each names the operation that it equals; where that is Pillow's, it is
equal to within one level.
"""

from collections.abc import Callable

import ml_collections
import tensorflow as tf

from diffad_jax.data.geometry import rotate, uniform

Config = ml_collections.ConfigDict
Augmenter = Callable[[tf.Tensor, tf.Tensor, Config], tf.Tensor]


def augment(texture: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """``config.num_augmenters`` different ones of the ten, in random order.

    Args:
      texture: [s, s, 3] float32, whole values in 0 … 255.
      seed: [2] int32 or int64.
      config: ``config.synthesis``.

    Returns:
      [s, s, 3] float32, whole values in 0 … 255.
    """
    count = config.num_augmenters
    seeds = tf.random.split(seed, count + 1)
    order = tf.argsort(uniform([len(AUGMENTERS)], seeds[0], 0.0, 1.0))
    for i in range(count):
        branches = [lambda op=op, x=texture, i=i: op(x, seeds[i + 1], config) for op in AUGMENTERS]
        texture = tf.ensure_shape(tf.switch_case(order[i], branches), texture.shape)
    return texture


def gamma_contrast(x: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """255 (x / 255)^γ, a γ a channel."""
    gamma = uniform([1, 3], seed, *config.gamma_range)
    return _look_up(x, 255.0 * (_LEVELS / 255.0) ** gamma)


def brightness(x: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """Luma Y (ITU-R 601) becomes a Y + b; the chroma stays."""
    seeds = tf.random.split(seed, 2)
    factor = uniform([], seeds[0], *config.brightness_factor_range)
    offset = uniform([], seeds[1], *config.brightness_offset_range)
    luma = tf.reduce_sum(x * tf.constant([0.299, 0.587, 0.114]), axis=-1, keepdims=True)
    return _levels(x + (factor - 1.0) * luma + offset)


def sharpness(x: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """Pillow's ImageEnhance.Sharpness: away from, or towards, a 3 × 3 smoothing."""
    factor = uniform([], seed, *config.sharpness_factor_range)
    kernel = tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13.0
    kernel = tf.repeat(kernel[:, :, None, None], 3, axis=2)
    inner = tf.nn.depthwise_conv2d(x[None], kernel, [1, 1, 1, 1], "VALID")[0]
    # The border is left as it is.
    inner = tf.pad(tf.round(inner) - x[1:-1, 1:-1], [[1, 1], [1, 1], [0, 0]])
    smooth = x + inner
    return _levels(smooth + factor * (x - smooth))


def hue_saturation(x: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """Adds to hue (255 is a full turn) and to saturation (255 is full)."""
    seeds = tf.random.split(seed, 2)
    turn = uniform([], seeds[0], *config.hue_saturation_range) / 255.0
    more = uniform([], seeds[1], *config.hue_saturation_range) / 255.0
    hue, saturation, value = tf.unstack(tf.image.rgb_to_hsv(x / 255.0), axis=-1)
    hsv = tf.stack(
        [tf.math.floormod(hue + turn, 1.0), tf.clip_by_value(saturation + more, 0.0, 1.0), value],
        axis=-1,
    )
    return _levels(255.0 * tf.image.hsv_to_rgb(hsv))


def solarize(x: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """Pillow's ImageOps.solarize, with a probability: inverts levels from a threshold up."""
    seeds = tf.random.split(seed, 2)
    threshold = uniform([], seeds[0], *config.solarize_threshold_range)
    chosen = uniform([], seeds[1], 0.0, 1.0) < config.solarize_probability
    return tf.where(chosen & (x >= threshold), 255.0 - x, x)


def posterize(x: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """Pillow's ImageOps.posterize: keeps the highest bits."""
    low, high = config.posterize_bits_range
    bits = tf.random.stateless_uniform([], seed, low, high + 1, tf.int32)
    step = tf.cast(2 ** (8 - bits), tf.float32)
    return tf.floor(x / step) * step


def invert(x: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """255 − x."""
    del seed, config
    return 255.0 - x


def autocontrast(x: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """Pillow's ImageOps.autocontrast: cuts a percentage at both ends and stretches the rest."""
    low, high = config.autocontrast_cutoff_range
    cutoff = tf.random.stateless_uniform([], seed, low, high + 1, tf.int32)
    histogram = _histogram(x)  # [256, 3]
    below = tf.cumsum(histogram)
    total = below[-1]
    cut = total * cutoff // 100
    first = tf.reduce_sum(tf.cast(below <= cut, tf.int32), axis=0)
    last = 255 - tf.reduce_sum(tf.cast(tf.cumsum(histogram, reverse=True) <= cut, tf.int32), axis=0)
    first, last = tf.cast(first, tf.float32), tf.cast(last, tf.float32)
    scale = 255.0 / tf.maximum(last - first, 1.0)
    table = tf.where(last > first, tf.floor((_LEVELS - first) * scale + 1e-3), _LEVELS)
    return _look_up(x, table)


def equalize(x: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """Pillow's ImageOps.equalize: all levels about as frequent, a channel at a time."""
    del seed, config
    histogram = _histogram(x)
    total = tf.shape(x)[0] * tf.shape(x)[1]
    top = 255 - tf.argmax(tf.cast(histogram[::-1] > 0, tf.int32), axis=0, output_type=tf.int32)
    step = (total - tf.gather(tf.transpose(histogram), top, batch_dims=1)) // 255
    before = tf.cumsum(histogram, exclusive=True)
    table = (step // 2 + before) // tf.maximum(step, 1)
    return _look_up(x, tf.where(step > 0, tf.cast(table, tf.float32), _LEVELS))


def rotation(x: tf.Tensor, seed: tf.Tensor, config: Config) -> tf.Tensor:
    """Turns the texture about its centre; what comes from outside is black."""
    degrees = config.texture_rotation_degrees
    return _levels(rotate(x, uniform([], seed, -degrees, degrees)))


AUGMENTERS: tuple[Augmenter, ...] = (
    gamma_contrast, brightness, sharpness, hue_saturation, solarize,
    posterize, invert, autocontrast, equalize, rotation,
)  # fmt: skip
_LEVELS = tf.range(256.0)[:, None]


def _levels(x: tf.Tensor) -> tf.Tensor:
    return tf.round(tf.clip_by_value(x, 0.0, 255.0))


def _look_up(x: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """``table`` [256, 3] holds the new value of each level of each channel."""
    table = tf.reshape(_levels(tf.broadcast_to(table, [256, 3])), [-1])
    return tf.gather(table, 3 * tf.cast(x, tf.int32) + tf.range(3))


def _histogram(x: tf.Tensor) -> tf.Tensor:
    """[256, 3] int32."""
    bins = 3 * tf.cast(x, tf.int32) + tf.range(3)
    return tf.reshape(tf.math.bincount(tf.reshape(bins, [-1]), minlength=768), [256, 3])
