"""Photo files to RGB pixels, by Pillow and NumPy alone.

Nothing of this package is imported here: exported models carry a copy of this file.
"""

import dataclasses
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

import numpy as np
from PIL import BmpImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

T = TypeVar("T")
HEIC_SUFFIXES = frozenset((".heic", ".heif"))  # read where pillow-heif is installed
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")) | HEIC_SUFFIXES
_AT_ONCE = 2**20  # pixels
_MOST_METADATA = 2**24  # bytes
MAX_SIDE = 2**18  # pixels: 16 times the line of a camera with 16,384
_PLANES, _BITS = 284, 258  # tags of a TIFF


class BadImage(ValueError):
    """A file that is no usable image. The message goes on after the file's name."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """How a photo's file becomes the pixels that a detector sees."""

    resize: str  # bilinear | antialias, see ``resized``
    bit_depth: int = 16  # how many bits photos fill that have room for more than 8; 0: not known
    photo_mib: float = 512.0  # most that a photo's RGB pixels may take

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether a photo of (width, height) may be held whole."""
        return 3 * size[0] * size[1] <= self.photo_mib * 2**20

    def __post_init__(self) -> None:
        """Raises ValueError for a resize rule that does not exist."""
        if self.resize not in ("bilinear", "antialias"):
            raise ValueError(f"config.data.resize = {self.resize!r}: choose bilinear or antialias")


class _Tiff(TiffImagePlugin.TiffImageFile):
    """A TIFF without Pillow's own limit of size, which ``Rules.photo_mib`` replaces."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)
        super().load_prepare()


class _Sparing:
    """A file that limits what is read before its pixels: Pillow copies all metadata with each piece
    that it adds."""

    def __init__(self, file: BinaryIO):
        self._file, self.left = file, _MOST_METADATA

    def read(self, size: int = -1) -> bytes:
        if size > self.left:
            raise BadImage(
                f"holds over {_MOST_METADATA >> 20} MiB of metadata before its pixels: save it "
                "without"
            )
        data = self._file.read(size)
        self.left -= len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


# The first bytes decide, not the name. Image.open would try every format that Pillow knows, and one
# of them starts Ghostscript.
_READERS: dict[bytes, Callable[[BinaryIO], Image.Image]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _Tiff),
}


def decode(
    source: bytes | BinaryIO, rules: Rules, convert: Callable[[Image.Image, Rules], T] | None = None
) -> T | np.ndarray:
    """Decodes a file, by default with ``rgb_pixels``.

    Args:
      source: the file's bytes, or the file itself, which is then read only as far as needed.
      rules: its limits hold before anything is decoded.
      convert: gets the image as Pillow opened it, not yet decoded.

    Raises:
      BadImage: not an image, damaged, too large, or outside the rules.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        head = file.read(16)
        file.seek(0)
        if not head:
            raise BadImage("is an empty file (0 bytes): restore or remove it")
        reader, sparing = _reader(head), _Sparing(file)
        with reader(sparing if reader in _READERS.values() else file) as image:
            sparing.left = sys.maxsize
            _check_size(image.size, rules)
            return (convert or rgb_pixels)(image, rules)
    except BadImage:
        raise
    except MemoryError:
        raise BadImage("does not fit into memory: scale it down or cut it up") from None
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        said = " ".join(str(error).split())  # of libheif's errors the last character ends a line
        raise BadImage(f"is damaged ({said}): restore or remove it") from error


def _reader(head: bytes) -> Callable[[BinaryIO], Image.Image]:
    for start, reader in _READERS.items():
        if head.startswith(start):
            return reader
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        try:
            from pillow_heif.as_plugin import HeifImageFile
        except ImportError:
            raise BadImage(
                "is a HEIC photo, which needs another package: pip install pillow-heif, or save "
                "it as JPEG"
            ) from None
        return HeifImageFile
    raise BadImage(
        "is no image that can be decoded (PNG, JPEG, BMP, TIFF or HEIC), whatever its name says: "
        "convert or remove it"
    )


def _check_size(size: tuple[int, int], rules: Rules) -> None:
    width, height = size
    if max(size) > MAX_SIDE:
        raise BadImage(
            f"is {width} × {height} pixels, and a side may have at most {MAX_SIDE}: cut it up"
        )
    if not rules.fits(size):
        raise BadImage(
            f"is {width} × {height} pixels, which take {3 * width * height / 2**20:.0f} MiB, more "
            f"than config.data.photo_mib = {rules.photo_mib:g}: raise that, or scale the photo "
            "down or cut it up"
        )


def rgb_pixels(image: Image.Image, rules: Rules) -> np.ndarray:
    """[h, w, 3] uint8 of any mode, upright.

    Raises:
      BadImage: floating-point levels, or levels beyond ``rules.bit_depth``.
    """
    if (levels := deep_levels(image)) is None:
        return _by_rows(image, (3,), lambda pixels: pixels)
    pixels = _eight_bit(levels, rules.bit_depth)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)


def brightest_channel(image: Image.Image) -> np.ndarray:
    """[h, w] uint8 of an image with at most 8 bits a channel, upright."""
    return _by_rows(image, (), lambda pixels: pixels.max(axis=-1))


def _by_rows(
    image: Image.Image, channels: tuple[int, ...], look: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    _upright(image)
    found = np.empty((image.height, image.width, *channels), np.uint8)
    for rows in _few_rows(image.height, image.width):
        found[rows] = look(np.asarray(_to_rgb(_cut(image, rows))))
    return found


def deep_levels(image: Image.Image) -> np.ndarray | None:
    """[h, w] or [h, w, 3] integers, upright, of an image with more than 8 bits a channel.

    None for any other image.

    Raises:
      BadImage: the levels are floating-point numbers, or stored in a way that Pillow cuts to 8 bit.
    """
    if image.mode == "F":
        raise BadImage("holds floating-point numbers of unknown range: save it with 8 or 16 bit")
    if image.mode.startswith("I"):
        return np.asarray(_upright(image))
    if image.format not in ("PNG", "TIFF") or not image.tile:
        return None
    mode = _raw_modes(image)[0]
    planes = image.format == "TIFF" and image.tag_v2.get(_PLANES) == 2
    if (
        planes
        and 16 in np.ravel(image.tag_v2.get(_BITS, 8))
        or (";16" in mode and mode[:-4] not in ("RGB", "RGBA", "RGBX"))
    ):
        raise BadImage("has 16 bits a channel in an unusual order: save it as plain RGB or grey")
    return _deep_colours(image, mode) if ";16" in mode else None


def _deep_colours(image: Image.Image, mode: str) -> np.ndarray:
    """[h, w, 3] uint16. Pillow takes one byte of two: it reads the upper ones, then the lower."""
    file, reader = image.fp, type(image)
    order = mode[-1] if mode[-1] != "N" else sys.byteorder[0].upper()
    levels = None
    for byte_order, weight in ((order, 256), ("LB"[order == "L"], 1)):
        file.seek(0)
        half = reader(file)
        half.tile = [
            tile._replace(args=_with_raw_mode(tile.args, mode[:-1] + byte_order))
            for tile in half.tile
        ]
        _upright(half)
        if levels is None:
            levels = np.zeros((half.height, half.width, 3), np.uint16)
        for rows in _few_rows(half.height, half.width):
            part = np.asarray(_cut(half, rows))[..., :3]
            levels[rows] += weight * part.astype(np.uint16)
    return levels


def _few_rows(height: int, width: int) -> Iterator[slice]:
    """All rows of a picture, a few at a time, because work on them takes memory."""
    step = max(_AT_ONCE // width, 1)
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def _cut(image: Image.Image, rows: slice) -> Image.Image:
    return image.crop((0, rows.start, image.width, rows.stop))


def _raw_modes(image: Image.Image) -> list[str]:
    """How the file holds pixels, in Pillow's words, for each of its tiles."""
    return [tile.args if isinstance(tile.args, str) else str(tile.args[0]) for tile in image.tile]


def _with_raw_mode(args: Any, mode: str) -> Any:
    return mode if isinstance(args, str) else (mode, *args[1:])


def _eight_bit(levels: np.ndarray, bit_depth: int) -> np.ndarray:
    """Any shape: 0 … 2^bit_depth - 1 to uint8, rounded."""
    low, high, most = int(levels.min()), int(levels.max()), 2**bit_depth - 1
    if bit_depth == 0:
        raise BadImage(
            f"has more than 8 bits a channel (levels {low} … {high}), of which nothing says how "
            "many the camera fills: name them in config.data.bit_depth, such as 12"
        )
    if low < 0 or high > most:
        raise BadImage(
            f"has levels {low} … {high}, outside the 0 … {most} of the detector's {bit_depth}-bit "
            "photos: set the camera as it was, or name its bits in config.data.bit_depth and train"
        )
    return looked_up(np.round(np.arange(most + 1) / (most / 255.0)).astype(np.uint8), levels)


def looked_up(table: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[h, w, …]: ``table[places]`` in little memory; NumPy would take 8 bytes a place."""
    found = np.empty(places.shape, table.dtype)
    for rows in _few_rows(*places.shape[:2]):
        found[rows] = table[places[rows]]
    return found


def _upright(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)  # a copy of a large photo takes long
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB from modes with 8 bits a channel or fewer; colours below transparency are taken."""
    if image.mode == "LA":
        image = image.getchannel(0)
    elif image.mode == "PA" or "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def resized(pixels: np.ndarray, size: tuple[int, int] | None, rule: str) -> np.ndarray:
    """[h, w, 3] uint8 at ``size``, (height, width), or the array itself where that changes nothing.

    ``bilinear`` samples the four nearest pixels (cv2.INTER_LINEAR); ``antialias`` weighs all pixels
    that an output pixel covers (Pillow's BILINEAR).
    """
    if size is None or pixels.shape[:2] == size:
        return pixels
    if rule == "antialias":
        image = Image.fromarray(pixels)
        # One axis a call: Pillow 13 takes the rows of tall photos first, and rounds otherwise.
        height, width = size
        for shape in ((width, image.height), (width, height)):
            image = image.resize(shape, Image.Resampling.BILINEAR)
        return np.array(image)
    return np.round(bilinear(pixels, size)).astype(np.uint8)


def bilinear(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[h, w, c] -> float32 at ``size`` from the four nearest pixels, centres at halves."""

    def places(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(place).astype(int)
        return low, np.minimum(low + 1, length - 1), (place - low).astype(np.float32)

    height, width = size
    y0, y1, fy = places(pixels.shape[0], height)
    x0, x1, fx = places(pixels.shape[1], width)

    def rows(x: np.ndarray) -> np.ndarray:
        upper, lower = pixels[y0[:, None], x], pixels[y1[:, None], x]
        return upper * (1 - fy)[:, None, None] + lower * fy[:, None, None]

    return rows(x0) * (1 - fx)[:, None] + rows(x1) * fx[:, None]
