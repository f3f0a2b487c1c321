"""Files to pixels: one decoder (Pillow) and one resize rule, for training and for use."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from etils import epath
from PIL import Image

from diffad_jax.data import photo
from diffad_jax.data.photo import bilinear, resized, to_rgb
from diffad_jax.errors import UserError

T = TypeVar("T")
_ORIENTATION = 0x0112  # EXIF tag; 5 … 8 swap width and height
_QUARTER_TURNS = (5, 6, 7, 8)
_WHITE_FLOOR = 32  # a mask that stays below holds class numbers; so much colour is not noise


class ImageError(UserError):
    """A file cannot be used as an image; the message names it and the remedy."""


@dataclasses.dataclass(frozen=True)
class PhotoFacts:
    """What a photo's file holds."""

    size: tuple[int, int]  # width, height in pixels, orientation obeyed
    mode: str  # Pillow's name, such as L, RGB or I;16
    file_format: str  # Pillow's name, such as PNG or JPEG
    sha256: str  # of the size and the RGB pixels that ``read_image`` gives; not of the file
    brightness: float  # mean of these pixels, 0 … 255


def read_image(path: str | os.PathLike[str], image_size: int | None, resize: str) -> np.ndarray:
    """Decodes a photo to RGB: [h, w, 3] uint8.

    Grey becomes three equal channels, 16-bit grey is divided by 257, transparency is dropped (the
    colour stored below it is taken, as cv2 does), and the camera's orientation tag is obeyed. Of
    several pages the first is read. JPEG is decoded at full size, never by its draft mode.

    Args:
      path: PNG, JPEG, BMP or TIFF; local or any path that etils.epath reads.
      image_size: h = w to resize to; None keeps the size.
      resize: ``bilinear`` samples the four nearest pixels (cv2.INTER_LINEAR, as published);
        ``antialias`` weighs all pixels that an output pixel covers (Pillow's BILINEAR).

    Raises:
      ImageError: not an image, damaged, or too large.
    """
    pixels = _decode(path, photo.rgb_pixels)
    return resized(pixels, image_size, resize)


def read_mask(
    path: str | os.PathLike[str],
    image_size: int | None,
    rule: str,
    photo_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Decodes a ground-truth mask: [h, w] uint8, 1 where anomalous, 0 elsewhere.

    Args:
      path: a grey image, white where anomalous, or one of the kinds that ``mask_levels`` reads.
      image_size: resized bilinearly (as published) to this height and width; None keeps the size.
      rule: which resized pixels count: ``full`` those that are still white when rounded to 8 bit
        (the published code truncates its 8-bit mask / 255), ``half`` those above half (right for
        masks with compression noise), ``any`` all that are not black.
      photo_size: (width, height) of the photo that it belongs to; None does not compare.

    Raises:
      ImageError: damaged, or of another size than its photo.
      ValueError: no such rule.
    """
    if rule not in ("full", "half", "any"):
        raise ValueError(f"config.evaluation.mask_rule = {rule!r}: choose full, half or any")
    level = mask_levels(path, photo_size)
    if image_size is not None and level.shape != (image_size, image_size):
        level = bilinear(level[..., None], image_size)[..., 0]
    if rule == "full":
        return (np.floor(level + 0.5) >= 255).astype(np.uint8)
    return (level > (127.5 if rule == "half" else 0)).astype(np.uint8)


def mask_levels(
    path: str | os.PathLike[str], photo_size: tuple[int, int] | None = None
) -> np.ndarray:
    """Decodes a ground-truth mask at its own size: [h, w] uint8, 0 normal … 255 anomalous.

    Besides grey masks it reads class numbers (no value reaches 32, as in VisA) and coloured masks:
    there, all that is not black is anomalous.

    Args:
      path: the mask's file.
      photo_size: (width, height) of the photo that it belongs to; None does not compare.

    Raises:
      ImageError: damaged, or of another size than its photo.
    """
    pixels = _decode(path, lambda image: np.asarray(to_rgb(image, class_numbers=True)))
    height, width = pixels.shape[:2]
    if photo_size is not None and (width, height) != photo_size:
        raise ImageError(
            f"{path} is {width} × {height}, its photo {photo_size[0]} × {photo_size[1]}: "
            "a mask must be as large as its photo"
        )
    brightest, darkest = pixels.max(axis=-1), pixels.min(axis=-1)
    if brightest.max() < _WHITE_FLOOR:
        return np.where(brightest > 0, np.uint8(255), np.uint8(0))
    if (brightest - darkest).max() >= _WHITE_FLOOR:
        return np.where(brightest >= _WHITE_FLOOR, np.uint8(255), np.uint8(0))
    return brightest


def photo_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) of a photo, orientation obeyed; only the header is decoded where it can be.

    Raises:
      ImageError: not an image, or damaged.
    """

    def size(image: Image.Image) -> tuple[int, int]:
        turned = image.getexif().get(_ORIENTATION) in _QUARTER_TURNS
        return (image.height, image.width) if turned else (image.width, image.height)

    return _decode(path, size)


def photo_facts(path: str | os.PathLike[str]) -> PhotoFacts:
    """Size, mode, format and digest of a photo, which is decoded whole.

    Raises:
      ImageError: not an image, damaged, or too large.
    """

    def facts(image: Image.Image) -> PhotoFacts:
        mode, file_format = image.mode, str(image.format)  # before the conversion drops them
        pixels = np.ascontiguousarray(to_rgb(image))
        digest = hashlib.sha256(repr(pixels.shape).encode())
        digest.update(pixels)
        height, width = pixels.shape[:2]
        return PhotoFacts(
            (width, height), mode, file_format, digest.hexdigest(), float(pixels.mean())
        )

    return _decode(path, facts)


def read_images(
    paths: Sequence[str], image_size: int, resize: str, on_bad_image: str = "fail"
) -> tuple[np.ndarray, list[int], list[tuple[str, str]]]:
    """Decodes many photos on all cores; beside the result, one photo a core is in memory.

    Returns:
      [n, image_size, image_size, 3] uint8, the indices of the paths read, and (path, reason) of
      those skipped.

    Raises:
      ImageError: a bad image and ``on_bad_image`` is ``fail``, or no good one.
    """
    pixels, reasons = _read_all(paths, image_size, resize, on_bad_image)
    kept = [i for i, reason in enumerate(reasons) if reason is None]
    skipped = [(paths[i], reason) for i, reason in enumerate(reasons) if reason is not None]
    if not kept:
        raise _none_read(len(paths), skipped[0][1] if skipped else "")
    return pixels if not skipped else pixels[kept], kept, skipped


def read_batches(
    paths: Sequence[str], batch_size: int, image_size: int, resize: str, on_bad_image: str = "fail"
) -> Iterator[np.ndarray]:
    """As ``read_images``, at most ``batch_size`` photos at a time: [b, s, s, 3] uint8, b > 0.

    Raises:
      ImageError: a bad image and ``on_bad_image`` is ``fail``, or, at the end, no good one.
    """
    first_reason, any_good = "", False
    for start in range(0, len(paths), batch_size):
        part = paths[start : start + batch_size]
        pixels, reasons = _read_all(part, image_size, resize, on_bad_image)
        good = np.array([reason is None for reason in reasons])
        first_reason = first_reason or next(filter(None, reasons), "")
        if good.any():
            any_good = True
            yield pixels[good]
    if not any_good:
        raise _none_read(len(paths), first_reason)


def _none_read(count: int, first_reason: str) -> ImageError:
    first = f"; the first: {first_reason}" if first_reason else ""
    return ImageError(f"none of {count} images could be read{first}")


def _read_all(
    paths: Sequence[str], image_size: int, resize: str, on_bad_image: str
) -> tuple[np.ndarray, list[str | None]]:
    """All photos, and for each why it could not be read."""
    pixels = np.empty((len(paths), image_size, image_size, 3), np.uint8)

    def read(i: int) -> str | None:
        try:
            pixels[i] = read_image(paths[i], image_size, resize)
        except ImageError as error:
            if on_bad_image == "fail":
                raise
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return pixels, list(pool.map(read, range(len(paths))))


def _decode(path: str | os.PathLike[str], convert: Callable[[Image.Image], T]) -> T:
    try:
        data = epath.Path(path).read_bytes()
    except Exception as error:  # each kind of storage has its own errors
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read {path}: {reason}") from error
    try:
        return photo.decode(data, convert)
    except photo.BadImage as error:
        raise ImageError(f"{path} {error}") from error
