"""Textures of anomalies: a folder of images, TFDS ``dtd``, or built-in procedural ones."""

import functools
import logging
from collections.abc import Callable

import ml_collections
import numpy as np
import tensorflow as tf
from etils import epath

from diffad_jax.data import listing, picture_store
from diffad_jax.data.geometry import uniform
from diffad_jax.data.listing import DataError
from diffad_jax.data.perlin import fade_tables
from diffad_jax.data.photo import Rules
from diffad_jax.types import height_width

logger = logging.getLogger(__name__)

# seed [2] -> texture [h, w, 3] float32, whole values in 0 … 255; works inside tf.data.
TextureSource = Callable[[tf.Tensor], tf.Tensor]
_CLOUD_POWERS = (2, 3, 4, 5)  # 2^power lattice cells a side


def texture_source(config: ml_collections.ConfigDict) -> TextureSource:
    """The source that ``config.data.textures`` names.

    Raises:
      layouts.DataError: the folder is missing or holds no image; dtd cannot be loaded.
      images.ImageError: an unreadable image, unless ``config.data.on_bad_image`` is ``skip``.
    """
    height, width = height_width(config.image_size)
    square = _squares(config, max(height, width))
    return lambda seed: square(seed)[:height, :width]


def _squares(config: ml_collections.ConfigDict, size: int) -> TextureSource:
    """A source of textures [size, size, 3], which are not stretched."""
    name = config.data.textures
    if name == "procedural":
        _say_once_that_procedural()
        return lambda seed: procedural_texture(seed, size)
    if name == "dtd":
        pixels = _load_dtd(size, config.data.cache_mib, config.data.resize)
        return _drawn_from(picture_store.from_pixels(pixels), len(pixels))
    return _from_folder(config, size)


@functools.cache
def _say_once_that_procedural() -> None:
    logger.warning(
        "synthetic anomalies are made of built-in procedural textures; config.data.textures can "
        "name a folder of images, or dtd"
    )


def _drawn_from(lookup: picture_store.Lookup, count: int) -> TextureSource:
    def sample(seed: tf.Tensor) -> tf.Tensor:
        i = tf.random.stateless_uniform([], seed, 0, count, tf.int32)
        return tf.cast(lookup(i), tf.float32)

    return sample


def _from_folder(config: ml_collections.ConfigDict, size: int) -> TextureSource:
    folder = listing.expanded(config.data.textures)
    if not epath.Path(folder).is_dir():
        raise DataError(
            f"config.data.textures = {folder!r} is no folder; "
            "name one with images in it, or procedural, or dtd"
        )
    files, notes = listing.find_photos(folder)
    for note in listing.cut_short(notes):
        logger.warning("%s", note)
    if not files:
        raise DataError(f"config.data.textures = {folder!r} holds no image")
    # Textures know no camera.
    rules = Rules(config.data.resize, photo_mib=config.data.photo_mib)
    return _drawn_from(*picture_store.open_files(files, size, rules, config.data))


def _load_dtd(size: int, cache_mib: int, rule: str) -> np.ndarray:
    """Describable Textures, as many as ``cache_mib`` holds: [n, size, size, 3] uint8.

    They are resized by ``rule``, see ``photo.resized``.
    """
    import tensorflow_datasets as tfds  # takes seconds to import

    try:
        dataset = tfds.load("dtd", split="train+validation+test")
    except OSError as error:
        raise DataError(
            f"config.data.textures = 'dtd' could not be downloaded ({error}); name a folder of "
            "images instead, or procedural"
        ) from error
    fits = cache_mib * 2**20 // (size * size * 3)
    if not fits:
        raise DataError(f"config.data.cache_mib = {cache_mib} leaves no room for a texture")
    count = min(len(dataset), fits)
    if count < len(dataset):
        logger.warning("%d of %d dtd textures fit config.data.cache_mib", count, len(dataset))
    resized = dataset.take(count).map(
        lambda e: tf.image.resize(e["image"], (size, size), antialias=rule == "antialias")
    )
    pixels = np.empty((count, size, size, 3), np.uint8)
    for i, texture in enumerate(tfds.as_numpy(resized)):
        pixels[i] = np.round(texture)
    return pixels


def procedural_texture(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Stripes, checks, dots, marble or clouds in two random colours, warped and speckled.

    Returns:
      [size, size, 3] float32, whole values in 0 … 255.
    """
    s = tf.random.split(seed, 9)
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    angle = uniform([], s[0], 0.0, np.pi)
    frequency = tf.exp(uniform([2], s[1], np.log(2.0), np.log(min(20.0, size / 4.0))))
    along = grid[None, :] * tf.cos(angle) + grid[:, None] * tf.sin(angle)
    across = -grid[None, :] * tf.sin(angle) + grid[:, None] * tf.cos(angle)
    clouds = _clouds(s[2], size)
    warp = uniform([], s[3], 0.0, 0.15) * clouds
    u = 2.0 * np.pi * frequency[0] * (along + warp)
    v = 2.0 * np.pi * frequency[1] * (across + warp)
    patterns = [
        lambda: tf.sin(u),
        lambda: tf.sign(tf.sin(u) * tf.sin(v)),
        lambda: 2.0 * tf.cast(tf.sin(u) + tf.sin(v) > 1.0, tf.float32) - 1.0,
        lambda: tf.sin(u / 2.0 + 4.0 * clouds),
        lambda: tf.clip_by_value(1.5 * clouds, -1.0, 1.0),
    ]
    kind = tf.random.stateless_uniform([], s[4], 0, len(patterns), tf.int32)
    mix = 0.5 + 0.5 * tf.ensure_shape(tf.switch_case(kind, patterns), (size, size))
    colours = uniform([2, 1, 3], s[5], 0.0, 255.0)
    speckle = uniform([], s[6], 0.0, 40.0) * uniform([size, size], s[7], -1.0, 1.0)
    shade = uniform([], s[8], 0.0, 20.0) * clouds
    # Products of matrices spread one plane over three channels much quicker than broadcasting.
    texture = (
        tf.linalg.matmul(mix[..., None], colours[0])
        + tf.linalg.matmul(1.0 - mix[..., None], colours[1])
        + tf.linalg.matmul((speckle + shade)[..., None], tf.ones([1, 3]))
    )
    return tf.round(tf.clip_by_value(texture, 0.0, 255.0))


def _clouds(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Smooth noise of four octaves, about in [-1, 1]: [size, size]."""
    seeds = tf.random.split(seed, len(_CLOUD_POWERS))
    near, _ = fade_tables(size, max(_CLOUD_POWERS))
    total = tf.zeros([size, size])
    for octave, power in enumerate(_CLOUD_POWERS):
        cells = 2**power + 1
        table = near[power, :, :cells]
        values = uniform([cells, cells], seeds[octave], -1.0, 1.0)
        total += 0.5**octave * (table @ values @ table.T)
    return total
