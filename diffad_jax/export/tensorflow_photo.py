"""A photo's bytes to pixels inside a TensorFlow graph, with the values of ``data.photo``.

TensorFlow reads PNG, JPEG, BMP and the first frame of a GIF, not TIFF, and does not obey the
camera's orientation tag.
"""

import tensorflow as tf

_BITS = 22  # of Pillow's fixed-point weights


def read(data: tf.Tensor, size: tuple[int, int], rule: str, bit_depth: int) -> tf.Tensor:
    """Decodes and resizes one photo: [] string -> [*size, 3] uint8 RGB.

    Args:
      data: the file's bytes.
      size: (height, width) to resize to.
      rule: ``bilinear`` or ``antialias``, see ``data.photo.resized``.
      bit_depth: of PNG files with 16 bits a channel; beyond it the graph raises.
    """
    pixels = tf.cond(
        tf.io.is_jpeg(data),
        # The accurate transform is Pillow's; the default is a faster one.
        lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.cond(
            # A PNG with 16 bits a channel, by its header.
            (tf.strings.substr(data, 0, 4) == b"\x89PNG")
            & (tf.strings.substr(data, 24, 1) == b"\x10"),
            lambda: _deep(data, bit_depth),
            lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
        ),
    )
    pixels = tf.ensure_shape(pixels, (None, None, 3))
    resized = _antialias(pixels, size) if rule == "antialias" else _bilinear(pixels, size)
    return tf.ensure_shape(tf.cast(resized, tf.uint8), (*size, 3))


def _deep(data: tf.Tensor, bit_depth: int) -> tf.Tensor:
    """The pixels of a PNG with 16 bits a channel: [h, w, 3] uint8."""
    levels = tf.cast(tf.io.decode_png(data, channels=3, dtype=tf.uint16), tf.float64)
    most = 2.0**bit_depth - 1.0
    fits = tf.debugging.assert_less_equal(
        tf.reduce_max(levels),
        tf.constant(most, tf.float64),
        f"a photo's levels exceed {bit_depth} bit",
    )
    with tf.control_dependencies([fits]):
        return tf.cast(tf.round(levels / (max(most, 1.0) / 255.0)), tf.uint8)


def _antialias(pixels: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Pillow's BILINEAR, to the bit: columns first, rounded to whole levels after either pass."""

    def rounded(total: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.floor(total / 2.0**_BITS + 0.5), 0.0, 255.0)

    shape = tf.shape(pixels)
    levels = tf.cast(pixels, tf.float64)  # in which sums of the weights below are exact
    levels = rounded(tf.einsum("sw,hwc->hsc", _weights(shape[1], size[1]), levels))
    return rounded(tf.einsum("sh,hwc->swc", _weights(shape[0], size[0]), levels))


def _weights(length: tf.Tensor, size: int) -> tf.Tensor:
    """[size, length] float64: for each output pixel a triangle over the pixels that it covers, in
    units of 2^-22, as Pillow rounds them."""
    length = tf.cast(length, tf.float64)
    scale = length / size
    support = tf.maximum(scale, 1.0)
    centre = (tf.range(size, dtype=tf.float64)[:, None] + 0.5) * scale
    place = tf.range(length, dtype=tf.float64)[None]
    first, end = tf.floor(centre - support + 0.5), tf.floor(centre + support + 0.5)
    weight = tf.maximum(1.0 - tf.abs((place - centre + 0.5) / support), 0.0)
    weight = tf.where((place >= first) & (place < end), weight, 0.0)
    return tf.floor(weight / tf.reduce_sum(weight, 1, keepdims=True) * 2.0**_BITS + 0.5)


def _bilinear(pixels: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """``data.photo.bilinear``, rounded."""

    def places(length: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        length = tf.cast(length, tf.float64)
        place = (tf.range(size, dtype=tf.float64) + 0.5) * length / size - 0.5
        place = tf.clip_by_value(place, 0.0, length - 1.0)
        low = tf.floor(place)
        high = tf.minimum(low + 1.0, length - 1.0)
        return tf.cast(low, tf.int32), tf.cast(high, tf.int32), tf.cast(place - low, tf.float32)

    shape, levels = tf.shape(pixels), tf.cast(pixels, tf.float32)
    y0, y1, fy = places(shape[0], size[0])
    x0, x1, fx = places(shape[1], size[1])
    fy, fx = fy[:, None, None], fx[:, None]
    rows = tf.gather(levels, y0) * (1.0 - fy) + tf.gather(levels, y1) * fy
    columns = tf.gather(rows, x0, axis=1) * (1.0 - fx) + tf.gather(rows, x1, axis=1) * fx
    return tf.round(columns)
