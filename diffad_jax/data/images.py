"""Files to pixels: one decoder (Pillow) and one resize rule, for training and for use."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import logging
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, TypeVar

import ml_collections
import numpy as np
from PIL import Image

from diffad_jax.data import photo
from diffad_jax.data.photo import Rules, resized
from diffad_jax.errors import UserError
from diffad_jax.runtime import storage
from diffad_jax.runtime.regular import open_regular
from diffad_jax.types import Size, height_width

T = TypeVar("T")
logger = logging.getLogger(__name__)
_ORIENTATION = 0x0112  # EXIF tag; 5 … 8 swap width and height
_QUARTER_TURNS = (5, 6, 7, 8)
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_TURNING_TEXTS = (b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp", b"xmp")
_FILE_TO_PIXELS = 4  # an uncompressed file of 16-bit colours is twice as large as its RGB pixels


class ImageError(UserError):
    """A file cannot be used as an image; the message names it and the remedy."""


@dataclasses.dataclass(frozen=True)
class PhotoFacts:
    """Facts about a photo's file."""

    size: tuple[int, int]  # width, height in pixels, orientation obeyed
    mode: str  # Pillow's name, such as L, RGB or I;16
    file_format: str  # Pillow's name, such as PNG or JPEG
    sha256: str  # of the size and the RGB pixels that ``read_image`` gives; not of the file
    brightness: float  # mean of these pixels, 0 … 255
    pages: int = 1  # or frames; the first one is read


def rules(data: ml_collections.ConfigDict) -> Rules:
    """The rules in ``config.data`` for reading photos; ``bit_depth`` finds the bit depth."""
    return Rules(data.resize, data.bit_depth, data.photo_mib)


def read_image(path: str | os.PathLike[str], size: Size | None, rules: Rules) -> np.ndarray:
    """Decodes a photo to RGB: [h, w, 3] uint8.

    Grey becomes three equal channels. More than 8 bits a channel are divided as ``rules.bit_depth``
    says. Transparency is dropped: the colour stored below it is taken, as cv2 does. The camera's
    orientation tag is obeyed. Of several pages the first is read. JPEG is decoded at full size,
    never by its draft mode.

    Args:
      path: PNG, JPEG, BMP, TIFF or HEIC; local or any path that etils.epath reads.
      size: to resize to, by ``rules.resize``; None keeps the photo's own.
      rules: of ``config.data``.

    Raises:
      ImageError: not an image, damaged, too large, or outside the rules.
    """

    def read(image: Image.Image, rules: Rules) -> np.ndarray:
        shape = None if size is None else height_width(size)
        return resized(photo.rgb_pixels(image, rules), shape, rules.resize)

    return decode(path, rules, read)


def photo_size(path: str | os.PathLike[str], rules: Rules) -> tuple[int, int]:
    """(width, height) of a photo, orientation obeyed; the header alone is decoded.

    Raises:
      ImageError: not an image, damaged, or too large.
    """

    def size(image: Image.Image, rules: Rules) -> tuple[int, int]:
        turned = image.format != "TIFF" and orientation(image) in _QUARTER_TURNS
        return image.size[::-1] if turned else image.size  # Pillow has turned the size of a TIFF

    return decode(path, rules, size)


def orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 … 8, of an image as Pillow opened it.

    Its pixels are not decoded. Pillow decodes a PNG, because the orientation may stand behind them.
    """
    if image.format == "PNG" and not _tells_behind_pixels(image.fp):
        return Image.Image.getexif(image).get(_ORIENTATION, 1)
    return image.getexif().get(_ORIENTATION, 1)


def _tells_behind_pixels(file: BinaryIO) -> bool:
    """Whether a PNG may say behind its pixels how it is turned."""
    before, is_behind, tells = file.tell(), False, False
    place = len(_PNG)
    while not tells and file.seek(place) == place and len(head := file.read(8)) == 8:
        length, name = struct.unpack(">L4s", head)
        place += length + 12  # with its head and its checksum
        is_behind |= name == b"IDAT"
        if is_behind and name in _PNG_TEXTS:
            tells = file.read(min(length, 32)).startswith(_TURNING_TEXTS)
        tells |= is_behind and name == b"eXIf"
    file.seek(before)
    return tells


def photo_facts(path: str | os.PathLike[str], rules: Rules) -> PhotoFacts:
    """Size, mode, format and hash of a photo, which is decoded whole.

    Raises:
      ImageError: not an image, damaged, too large, or outside the rules.
    """

    def facts(image: Image.Image, rules: Rules) -> PhotoFacts:
        mode, file_format = image.mode, str(image.format)  # before the conversion drops them
        pages = getattr(image, "n_frames", 1)
        pixels = np.ascontiguousarray(photo.rgb_pixels(image, rules))
        digest = hashlib.sha256(repr(pixels.shape).encode())
        digest.update(pixels)
        height, width = pixels.shape[:2]
        return PhotoFacts(
            (width, height), mode, file_format, digest.hexdigest(), float(pixels.mean()), pages
        )

    return decode(path, rules, facts)


def decode(
    path: str | os.PathLike[str], rules: Rules, convert: Callable[[Image.Image, Rules], T]
) -> T:
    """``photo.decode`` of a file. As many threads decode at once as fit ``photo_mib``.

    Raises:
      ImageError: not an image, damaged, too large, or outside the rules.
    """

    try:
        file = open_photo(path, rules)
    except Exception as error:  # each kind of storage has its own errors
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read {path}: {reason}") from error
    with file:
        try:
            return photo.decode(file, rules, _in_turn(convert))
        except photo.BadImage as error:
            raise ImageError(f"{path} {error}") from error


def read_bytes(data: bytes, rules: Rules) -> np.ndarray:
    """The photo in a file's bytes, [h, w, 3] uint8, as ``read_image`` gives it.

    Raises:
      photo.BadImage: not an image, damaged, too large, or outside the rules.
    """
    return photo.decode(data, rules, _in_turn(photo.rgb_pixels))


def _in_turn(convert: Callable[[Image.Image, Rules], T]) -> Callable[[Image.Image, Rules], T]:
    """``convert`` once there is room for the image."""

    def in_turn(image: Image.Image, rules: Rules) -> T:
        with _memory(3 * image.width * image.height, rules.photo_mib * 2**20):
            return convert(image, rules)

    return in_turn


def open_photo(path: str | os.PathLike[str], rules: Rules) -> BinaryIO:
    """The bytes of a photo's file, local or any that etils.epath reads, within ``rules``.

    Raises:
      OSError: absent, unreadable, no regular file, or too large; or an error of the storage.
    """
    most_bytes = most_file_bytes(rules)
    if storage.is_remote(os.fspath(path)):
        return io.BytesIO(storage.read(path, most_bytes))
    return open_regular(path, most_bytes)


def most_file_bytes(rules: Rules) -> float:
    """The most bytes that a photo's file may have."""
    return _FILE_TO_PIXELS * rules.photo_mib * 2**20


class _Memory:
    """Lets threads go on while their memory together fits; one alone always goes on."""

    def __init__(self) -> None:
        self._held = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def __call__(self, num_bytes: int, most: float) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + num_bytes <= most)
            self._held += num_bytes
        try:
            yield
        finally:
            with self._changed:
                self._held -= num_bytes
                self._changed.notify_all()


_memory = _Memory()


def read_images(
    paths: Sequence[str], size: Size, rules: Rules, on_bad_image: str = "fail"
) -> tuple[np.ndarray, list[int], list[tuple[str, str]]]:
    """Decodes many photos on all cores; memory holds the result and at most one photo a core.

    From object storage, enough files are read at once to hide its latency.

    Returns:
      [n, h, w, 3] uint8 of this size, the indices of the paths read, and (path, reason) of
      those skipped.

    Raises:
      ImageError: a bad image and ``on_bad_image`` is ``fail``, or no good one.
    """
    pixels, reasons = _read_all(paths, size, rules, on_bad_image)
    kept = [i for i, reason in enumerate(reasons) if reason is None]
    skipped = [(paths[i], reason) for i, reason in enumerate(reasons) if reason is not None]
    if not kept:
        raise _none_read(len(paths), skipped[0][1] if skipped else "")
    return pixels if not skipped else pixels[kept], kept, skipped


def read_batches(
    paths: Sequence[str],
    batch_size: int,
    size: Size,
    rules: Rules,
    on_bad_image: str = "fail",
) -> Iterator[np.ndarray]:
    """Like ``read_images``, at most ``batch_size`` photos at a time: [b, h, w, 3] uint8, b > 0.

    Raises:
      ImageError: a bad image and ``on_bad_image`` is ``fail``, or, at the end, no good one.
    """
    first_reason, any_good = "", False
    for start in range(0, len(paths), batch_size):
        part = paths[start : start + batch_size]
        pixels, reasons = _read_all(part, size, rules, on_bad_image)
        good = np.array([reason is None for reason in reasons])
        first_reason = first_reason or next(filter(None, reasons), "")
        if good.any():
            any_good = True
            yield pixels[good]
    if not any_good:
        raise _none_read(len(paths), first_reason)


@functools.lru_cache(10_000)
def log_skipped(reason: str) -> None:
    """Names a photo that is left out; once, though several passes meet it."""
    logger.warning("skipped: %s", reason)


def _none_read(count: int, first_reason: str) -> ImageError:
    first = f"; the first: {first_reason}" if first_reason else ""
    return ImageError(f"none of {count} images could be read{first}")


def _read_all(
    paths: Sequence[str], size: Size, rules: Rules, on_bad_image: str
) -> tuple[np.ndarray, list[str | None]]:
    """All photos, each with the reason why it could not be read, if any; such are logged."""
    pixels = np.empty((len(paths), *height_width(size), 3), np.uint8)

    def read(i: int) -> str | None:
        try:
            pixels[i] = read_image(paths[i], size, rules)
        except ImageError as error:
            if on_bad_image == "fail":
                raise ImageError(
                    f"{error}. --mode=inspect lists all such files, and says how to leave them out"
                ) from error
            return str(error)
        return None

    remote = any(map(storage.is_remote, paths[:1]))
    with ThreadPoolExecutor(storage.REQUESTS if remote else os.cpu_count()) as pool:
        reasons = list(pool.map(read, range(len(paths))))
    for reason in filter(None, reasons):
        log_skipped(reason)
    return pixels, reasons
