"""The ten changes that DRAEM makes to textures: each texture gets three, in random order.

Every op maps [s, s, 3] float32 with whole values in 0 … 255 to the same. It is a pure function of
three numbers u ~ U(0, 1), and uses as many as it needs. Each op names the operation that it equals;
where that is Pillow's, it is equal to within one level.

The code has arithmetic in place of tf.where: at 256 × 256 tf.where costs 1.5 ms and more on a CPU,
a product 0.05 ms. XLA compiles tables and colour spaces, which is three times as quick. It is
slower than TensorFlow's own kernels at exponentials and histograms.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from diffad_jax.data.geometry import between, rotate, uniform, whole_between

Augmenter = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# As DRAEM's published code draws them with imgaug.
NUM_AUGMENTERS = 3
GAMMA = (0.5, 2.0)  # a draw a channel
BRIGHTNESS_FACTOR = (0.8, 1.2)  # multiplies ...
BRIGHTNESS_OFFSET = (-30.0, 30.0)  # ... and is added, in 1/255
SHARPNESS_FACTOR = (0.0, 3.0)  # 0 smooths, 1 changes nothing, above sharpens
HUE_SATURATION = (-50.0, 50.0)  # added to hue and to saturation, in 1/255
SOLARIZE_PROBABILITY = 0.5
SOLARIZE_THRESHOLD = (32.0, 128.0)  # in 1/255
POSTERIZE_BITS = (1, 8)  # kept a channel
AUTOCONTRAST_CUTOFF = (0, 20)  # per cent of the pixels at either end
ROTATION_DEGREES = 45.0  # either way


def augment(texture: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """``NUM_AUGMENTERS`` different ones of the ten, in random order.

    Args:
      texture: [s, s, 3] float32, whole values in 0 … 255.
      seed: [2] int64.

    Returns:
      [s, s, 3] float32, whole values in 0 … 255.
    """
    count, choices = NUM_AUGMENTERS, len(AUGMENTERS)
    drawn = uniform([choices + 3 * count], seed)
    order, u = tf.argsort(drawn[:choices]), tf.reshape(drawn[choices:], [count, 3])

    # A loop, not three copies: tf.data then traces the ten branches once, which saves seconds.
    def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        branches = [lambda op=op: op(x, u[i]) for op in AUGMENTERS]
        return i + 1, tf.ensure_shape(tf.switch_case(order[i], branches), texture.shape)

    return tf.while_loop(lambda i, _: i < count, step, (0, texture))[1]


def gamma_contrast(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """255 (x / 255)^γ, a γ a channel."""
    gamma = between(u, *GAMMA)
    levels = np.arange(256, dtype=np.float32)[None] / 255.0
    return _look_up(tf.round(255.0 * tf.pow(levels, gamma[:, None])), x)


def brightness(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Luma Y (ITU-R 601) becomes a Y + b; the chroma stays."""
    factor = between(u[0], *BRIGHTNESS_FACTOR)
    offset = between(u[1], *BRIGHTNESS_OFFSET)
    return _change_luma(x, factor, offset)


def sharpness(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Pillow's ImageEnhance.Sharpness: away from, or towards, a 3 × 3 smoothing."""
    return _sharpen(x, between(u[0], *SHARPNESS_FACTOR))


def hue_saturation(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Adds to hue (255 is a full turn) and to saturation (255 is full)."""
    turn, more = tf.unstack(between(u[:2], *HUE_SATURATION) / 255.0)
    return _add_to_hsv(x, turn, more)


def solarize(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Pillow's ImageOps.solarize, with a probability: inverts levels from a threshold up."""
    threshold = tf.math.ceil(between(u[0], *SOLARIZE_THRESHOLD))
    chosen = u[1] < SOLARIZE_PROBABILITY
    return _invert_above(x, tf.where(chosen, threshold, 256.0))


def posterize(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Pillow's ImageOps.posterize: keeps the highest bits."""
    bits = whole_between(u[0], *POSTERIZE_BITS)
    step = tf.cast(2 ** (8 - bits), tf.float32)
    return tf.floor(x / step) * step


def invert(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """255 − x."""
    del u
    return 255.0 - x


def autocontrast(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Pillow's ImageOps.autocontrast: cuts a percentage at both ends and stretches the rest."""
    cutoff = whole_between(u[0], *AUTOCONTRAST_CUTOFF)
    histogram = _histogram(x)
    below, above = tf.cumsum(histogram, axis=1), tf.cumsum(histogram, axis=1, reverse=True)
    cut = below[:, -1:] * cutoff // 100
    first = tf.reduce_sum(tf.cast(below <= cut, tf.float32), axis=1)
    last = 255.0 - tf.reduce_sum(tf.cast(above <= cut, tf.float32), axis=1)
    stretches = last > first
    scale = tf.where(stretches, 255.0 / tf.maximum(last - first, 1.0), 1.0)
    first = tf.where(stretches, first, 0.0)
    stretched = (x - _along_rows(first, x)) * _along_rows(scale, x)
    return tf.clip_by_value(tf.floor(stretched + 1e-3), 0.0, 255.0)


def equalize(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Pillow's ImageOps.equalize: all levels about as frequent, a channel at a time."""
    del u
    histogram = _histogram(x)
    total = x.shape[0] * x.shape[1]
    levels = tf.constant(np.arange(256)[None], tf.int32)
    top = tf.reduce_max(tf.sign(histogram) * levels, axis=1)
    step = (total - tf.gather(histogram, top, batch_dims=1))[:, None] // 255
    before = tf.cumsum(histogram, axis=1, exclusive=True)
    table = (step // 2 + before) // tf.maximum(step, 1)
    table = tf.clip_by_value(tf.where(step > 0, table, levels), 0, 255)
    return _look_up(tf.cast(table, tf.float32), x)


def rotation(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Turns the texture about its centre; what comes from outside is black."""
    return rotate(x, between(u[0], -ROTATION_DEGREES, ROTATION_DEGREES), rounded=True)


AUGMENTERS: tuple[Augmenter, ...] = (
    gamma_contrast, brightness, sharpness, hue_saturation, solarize,
    posterize, invert, autocontrast, equalize, rotation,
)  # fmt: skip


def _levels(x: tf.Tensor) -> tf.Tensor:
    return tf.round(tf.clip_by_value(x, 0.0, 255.0))


def _along_rows(channels: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """[3] -> [1, s, 3]: ten times quicker to broadcast to [s, s, 3] than [3] is."""
    return tf.tile(channels[None, None], [1, x.shape[1], 1])


def _bins(x: tf.Tensor) -> tf.Tensor:
    """Level + 256 channel: [s, s, 3] int32."""
    return tf.cast(x + _along_rows(tf.constant([0.0, 256.0, 512.0]), x), tf.int32)


def _histogram(x: tf.Tensor) -> tf.Tensor:
    """[3, 256] int32."""
    # tf.math.bincount would first look for the largest and clip.
    counts = tf.raw_ops.DenseBincount(
        input=tf.reshape(_bins(x), [-1]), size=768, weights=tf.zeros([0], tf.int32)
    )
    return tf.reshape(counts, [3, 256])


@tf.function(jit_compile=True, autograph=False)
def _look_up(table: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Looks up the levels of x in a table for each channel, [3, 256] float32."""
    return tf.gather(tf.reshape(table, [-1]), _bins(x))


@tf.function(jit_compile=True, autograph=False)
def _change_luma(x: tf.Tensor, factor: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Moves R, G and B equally, so that the luma Y becomes factor · Y + offset."""
    luma = np.outer([0.299, 0.587, 0.114], [1.0, 1.0, 1.0]).astype(np.float32)
    return _levels(
        tf.linalg.matmul(x, np.eye(3, dtype=np.float32) + (factor - 1.0) * luma) + offset
    )


@tf.function(jit_compile=True, autograph=False)
def _invert_above(x: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """255 − x from the threshold, a whole number, up."""
    return tf.where(x >= threshold, 255.0 - x, x)


@tf.function(jit_compile=True, autograph=False)
def _sharpen(x: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """x̄ + factor (x − x̄), with x̄ a mean over 3 × 3 pixels in which the middle one counts 5 times.

    The border stays as it is. Pixels and channels share an axis, because the compiler vectorises
    the last one.
    """
    height, width, _ = x.shape
    flat = tf.reshape(x, [height, 3 * width])
    rows = flat[:-2] + flat[1:-1] + flat[2:]
    total = rows[:, :-6] + rows[:, 3:-3] + rows[:, 6:]
    middle = flat[1:-1, 3:-3]
    smooth = tf.round((total + 4.0 * middle) / 13.0)
    inner = _levels(smooth + factor * (middle - smooth))
    between_ends = tf.concat([flat[1:-1, :3], inner, flat[1:-1, -3:]], axis=1)
    return tf.reshape(tf.concat([flat[:1], between_ends, flat[-1:]], axis=0), x.shape)


@tf.function(jit_compile=True, autograph=False)
def _add_to_hsv(x: tf.Tensor, turn: tf.Tensor, more: tf.Tensor) -> tf.Tensor:
    """Turns the hue by a share of the circle, adds to the saturation in [0, 1]."""
    hue, saturation, value = _to_hsv(x)
    hue += turn
    planes = [hue - tf.floor(hue), tf.clip_by_value(saturation + more, 0.0, 1.0), value]
    return _levels(255.0 * tf.image.hsv_to_rgb(tf.stack(planes, axis=-1)))


def _to_hsv(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """tf.image.rgb_to_hsv in planes, three times as quick: each [s, s] float32 in [0, 1]."""
    red, green, blue = tf.unstack(x, axis=-1)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    per_chroma = 1.0 / tf.maximum(chroma, 1.0)  # levels are whole: grey is 0, anything else ≥ 1
    is_red = 1.0 - tf.minimum(value - red, 1.0)
    is_green = (1.0 - is_red) * (1.0 - tf.minimum(value - green, 1.0))
    is_blue = 1.0 - is_red - is_green
    sixths = (
        is_red * (green - blue) * per_chroma
        + is_green * ((blue - red) * per_chroma + 2.0)
        + is_blue * ((red - green) * per_chroma + 4.0)
    )
    return sixths / 6.0, chroma / tf.maximum(value, 1.0), value / 255.0
