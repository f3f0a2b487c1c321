"""DRAEM's synthesis with OpenCV, NumPy and Pillow, as PyTorch loaders do it: the reference.

Written for this benchmark from a description of the published loader: an example reads its photo
and its texture from disk, everything happens in one process, one example at a time, and an example
that is to stay normal is made in full before its anomaly is thrown away. Each step is the quickest
call of these libraries known to us: tables on bytes, cv2.warpAffine, float32.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import ml_collections
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from diffad_jax.data import augment, perlin, synthesis

Config = ml_collections.ConfigDict
Augmenter = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class NumpyLoader:
    """Makes examples one by one, and keeps the seconds spent on each part.

    Args:
      photos: files of normal photos.
      textures: files that anomalies are made of.
      size: pixels of a side of an example.
      config: ``config.synthesis``.
      seed: of all draws.
      skips_normal: decides that an example stays normal before its anomaly is made, and not after.
    """

    def __init__(
        self,
        photos: list[str],
        textures: list[str],
        size: int,
        config: Config,
        seed: int,
        skips_normal: bool = False,
    ):
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.photos, self.textures, self._size = photos, textures, size
        self._config, self._skips_normal = config, skips_normal
        self._rng = np.random.default_rng(seed)

    def example(self) -> dict[str, np.ndarray]:
        """One example.

        Returns:
          image and augmented_image [s, s, 3] float32 in [0, 1], RGB; anomaly_mask [s, s, 1]
          float32 in {0, 1}.
        """
        rng, c = self._rng, self._config
        degrees = synthesis.ROTATION_DEGREES
        with self._timed("photo"):
            photo = self._read(self.photos)
            if rng.random() < c.rotation_probability:
                photo = rotate(photo, rng.uniform(-degrees, degrees))
            image = photo.astype(np.float32) * np.float32(1 / 255)
        stays_normal = rng.random() < c.normal_probability
        nothing = np.zeros((self._size, self._size, 1), np.float32)
        if stays_normal and self._skips_normal:
            return {"image": image, "augmented_image": image, "anomaly_mask": nothing}

        with self._timed("texture"):
            texture = self._read(self.textures)
        with self._timed("augmenters"):
            for i in rng.permutation(len(AUGMENTERS))[: augment.NUM_AUGMENTERS]:
                texture = AUGMENTERS[i](texture, rng)
        with self._timed("Perlin mask"):
            mask = anomaly_mask(self._size, rng)
        with self._timed("blend"):
            beta = np.float32(rng.uniform(0.0, c.max_beta))
            anomaly = texture.astype(np.float32) * np.float32(1 / 255)
            augmented = (1 - mask) * image + mask * ((1 - beta) * anomaly + beta * image)
        if stays_normal:
            augmented, mask = image, nothing
        return {"image": image, "augmented_image": augmented, "anomaly_mask": mask}

    def _read(self, files: list[str]) -> np.ndarray:
        file = files[self._rng.integers(len(files))]
        pixels = cv2.imread(file, cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError(f"{file} cannot be read by OpenCV")
        pixels = cv2.resize(pixels, (self._size, self._size))
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - started


def anomaly_mask(size: int, rng: np.random.Generator) -> np.ndarray:
    """Perlin noise of random periods, rotated, above a threshold: [s, s, 1] float32 in {0, 1}."""
    powers = rng.integers(perlin.MIN_EXPONENT, perlin.MAX_EXPONENT + 1, 2)
    noise = perlin_noise(size, 2 ** int(powers[0]), 2 ** int(powers[1]), rng)
    degrees = perlin.ROTATION_DEGREES
    turned = rotate(noise, rng.uniform(-degrees, degrees))
    return (turned > synthesis.NOISE_THRESHOLD).astype(np.float32)[..., None]


def perlin_noise(size: int, down: int, across: int, rng: np.random.Generator) -> np.ndarray:
    """The textbook's: four gradients about each pixel, quintic fade; [s, s] float32, times √2."""
    angles = rng.uniform(0.0, 2.0 * math.pi, (down + 1, across + 1)).astype(np.float32)
    gradients = np.cos(angles), np.sin(angles)
    y, x = (np.arange(size, dtype=np.float32) * (n / size) for n in (down, across))
    row, column = y.astype(int), x.astype(int)
    y, x = (y - row)[:, None], (x - column)[None, :]

    def corner(i: int, j: int) -> np.ndarray:
        dy, dx = (g[row + i][:, column + j] for g in gradients)
        return dy * (y - i) + dx * (x - j)

    fade_y, fade_x = (t * t * t * (t * (t * 6 - 15) + 10) for t in (y, x))
    top, bottom = (corner(i, 0) + fade_x * (corner(i, 1) - corner(i, 0)) for i in (0, 1))
    return np.float32(math.sqrt(2.0)) * (top + fade_y * (bottom - top))


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """About the centre, bilinear, 0 from outside."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height))


def _gamma_contrast(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    levels = np.arange(256)[:, None] / 255.0
    table = np.round(255.0 * levels ** rng.uniform(*augment.GAMMA, 3))
    return cv2.LUT(x, table.astype(np.uint8)[None])


def _brightness(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    factor = rng.uniform(*augment.BRIGHTNESS_FACTOR)
    offset = rng.uniform(*augment.BRIGHTNESS_OFFSET)
    planes = cv2.cvtColor(x, cv2.COLOR_RGB2YCrCb)
    table = np.tile(np.arange(256.0)[:, None], (1, 3))
    table[:, 0] = np.clip(np.round(factor * table[:, 0] + offset), 0, 255)
    return cv2.cvtColor(cv2.LUT(planes, table.astype(np.uint8)[None]), cv2.COLOR_YCrCb2RGB)


def _sharpness(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    factor = rng.uniform(*augment.SHARPNESS_FACTOR)
    return np.asarray(ImageEnhance.Sharpness(Image.fromarray(x)).enhance(factor))


def _hue_saturation(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    turn, more = np.round(rng.uniform(*augment.HUE_SATURATION, 2)).astype(int)
    levels = np.arange(256)
    table = np.stack([(levels + turn) % 256, np.clip(levels + more, 0, 255), levels], axis=-1)
    hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV_FULL)
    return cv2.cvtColor(cv2.LUT(hsv, table.astype(np.uint8)[None]), cv2.COLOR_HSV2RGB_FULL)


def _solarize(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    threshold = rng.uniform(*augment.SOLARIZE_THRESHOLD)
    if rng.random() >= augment.SOLARIZE_PROBABILITY:
        return x
    levels = np.arange(256)
    return cv2.LUT(x, np.where(levels >= threshold, 255 - levels, levels).astype(np.uint8))


def _posterize(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low, high = augment.POSTERIZE_BITS
    return x & np.uint8(256 - 2 ** (8 - int(rng.integers(low, high + 1))))


def _invert(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    del rng
    return 255 - x


def _autocontrast(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low, high = augment.AUTOCONTRAST_CUTOFF
    cutoff = int(rng.integers(low, high + 1))
    return np.asarray(ImageOps.autocontrast(Image.fromarray(x), cutoff))


def _equalize(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    del rng
    return np.asarray(ImageOps.equalize(Image.fromarray(x)))


def _rotation(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    degrees = augment.ROTATION_DEGREES
    return rotate(x, rng.uniform(-degrees, degrees))


AUGMENTERS: tuple[Augmenter, ...] = (
    _gamma_contrast, _brightness, _sharpness, _hue_saturation, _solarize,
    _posterize, _invert, _autocontrast, _equalize, _rotation,
)  # fmt: skip
