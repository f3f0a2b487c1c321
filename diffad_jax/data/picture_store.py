"""Decoded pictures for tf.data: in memory where they fit, read each time where they do not."""

import itertools
from collections.abc import Callable, Sequence

import ml_collections
import numpy as np
import tensorflow as tf

from diffad_jax.data import images
from diffad_jax.data.photo import Rules
from diffad_jax.types import Size, height_width

Lookup = Callable[[tf.Tensor], tf.Tensor]  # int32 [] -> uint8 [s, s, 3]; works inside tf.data


def open_files(
    files: Sequence[str], size: Size, rules: Rules, data: ml_collections.ConfigDict, share: int = 1
) -> tuple[Lookup, int]:
    """A lookup of the pictures in ``files``, and how many there are.

    Args:
      files: paths, at least one.
      size: after resizing.
      rules: of ``images.read_image``.
      data: ``config.data``: ``cache_mib`` decides between memory and disk, ``on_bad_image`` whether
        a bad file raises or is logged and left out.
      share: one part of so many of the memory is for these files.

    Raises:
      images.ImageError: a bad file and ``fail``, or no good one; from within tf.data where files
        are read each time.
    """
    height, width = height_width(size)
    if len(files) * height * width * 3 <= data.cache_mib * 2**20 / share:
        pixels, _, _ = images.read_images(files, size, rules, data.on_bad_image)
        return from_pixels(pixels), len(pixels)

    def read(i: np.ndarray) -> np.ndarray:
        # A bad file is replaced by the next good one, so that the seed alone decides.
        for j in itertools.chain(range(i, len(files)), range(i)):
            try:
                return images.read_image(files[j], size, rules)
            except images.ImageError as error:
                if data.on_bad_image == "fail":
                    raise
                images.log_skipped(str(error))
        raise images.ImageError(f"none of {len(files)} images could be read, such as {files[0]}")

    return _lookup(read, (height, width)), len(files)


def from_pixels(pixels: np.ndarray) -> Lookup:
    """A lookup of [n, h, w, 3] uint8. A constant of TensorFlow would hold them three times."""
    return _lookup(pixels.__getitem__, pixels.shape[1:3])


def _lookup(read: Callable[[np.ndarray], np.ndarray], size: tuple[int, int]) -> Lookup:
    return lambda i: tf.ensure_shape(tf.numpy_function(read, [i], tf.uint8), (*size, 3))
