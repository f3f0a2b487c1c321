"""Photo files to RGB pixels, by Pillow and NumPy alone.

Nothing of this package is imported here: exported models carry a copy of this file.
"""

import io
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

T = TypeVar("T")
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"))


class BadImage(ValueError):
    """Bytes that are no usable image. The message goes on after the file's name."""


def to_rgb(image: Image.Image, class_numbers: bool = False) -> Image.Image:
    """Any mode to upright RGB; with ``class_numbers``, 16-bit grey below 256 keeps its values."""
    ImageOps.exif_transpose(image, in_place=True)  # a copy of a large photo takes long
    if image.mode == "F":
        raise BadImage("holds floating-point numbers of unknown range: save it with 8 or 16 bit")
    if image.mode.startswith("I"):  # 16-bit grey; convert would clip
        levels = np.asarray(image).astype(np.float64)
        if not (class_numbers and levels.max() < 256):
            levels = np.clip(np.round(levels / 257.0), 0, 255)
        image = Image.fromarray(levels.astype(np.uint8))
    elif image.mode == "LA":
        image = image.getchannel(0)
    elif image.mode == "PA" or "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def rgb_pixels(image: Image.Image) -> np.ndarray:
    """[h, w, 3] uint8 of any mode."""
    return np.asarray(to_rgb(image))


def decode(data: bytes, convert: Callable[[Image.Image], T] = rgb_pixels) -> T:
    """Decodes a file's bytes: by default to [h, w, 3] uint8 RGB.

    Raises:
      BadImage: not an image, damaged, or too large.
    """
    if not data:
        raise BadImage("is an empty file (0 bytes): restore or remove it")
    try:
        with Image.open(io.BytesIO(data)) as image:
            return convert(image)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(
            "is no image that can be decoded, whatever its name says: remove it"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"is too large ({error}): scale it down or cut it up") from error
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise BadImage(f"is damaged ({error}): restore or remove it") from error


def resized(pixels: np.ndarray, size: int | None, rule: str) -> np.ndarray:
    """[h, w, 3] uint8 -> [size, size, 3] uint8, a copy; None keeps the size.

    ``bilinear`` samples the four nearest pixels (cv2.INTER_LINEAR); ``antialias`` weighs all pixels
    that an output pixel covers (Pillow's BILINEAR).

    Raises:
      ValueError: no such rule.
    """
    if rule not in ("bilinear", "antialias"):
        raise ValueError(f"config.data.resize = {rule!r}: choose bilinear or antialias")
    if size is None or pixels.shape[:2] == (size, size):
        return pixels.copy()  # Pillow's pixels are read-only
    if rule == "antialias":
        image = Image.fromarray(pixels)
        # One axis a call: of tall photos Pillow 13 takes the rows first, and rounds otherwise.
        for shape in ((size, image.height), (size, size)):
            image = image.resize(shape, Image.Resampling.BILINEAR)
        return np.array(image)
    return np.round(bilinear(pixels, size)).astype(np.uint8)


def bilinear(pixels: np.ndarray, size: int) -> np.ndarray:
    """[h, w, c] -> [size, size, c] float32 from the four nearest pixels, centres at halves."""

    def places(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(place).astype(int)
        return low, np.minimum(low + 1, length - 1), (place - low).astype(np.float32)

    y0, y1, fy = places(pixels.shape[0])
    x0, x1, fx = places(pixels.shape[1])
    rows = pixels[y0] * (1 - fy)[:, None, None] + pixels[y1] * fy[:, None, None]
    return rows[:, x0] * (1 - fx)[:, None] + rows[:, x1] * fx[:, None]
