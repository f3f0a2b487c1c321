"""Photos too large to be held whole, read in strips of rows from top to bottom.

Each strip is written anew as a small file of the photo's own format, and decoded as any photo. So
its pixels equal those of the whole photo.
"""

import dataclasses
import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from diffad_jax.data import images, photo
from diffad_jax.data.photo import BadImage, Rules
from diffad_jax.runtime import storage
from diffad_jax.runtime.regular import open_regular

_STRIP = 2**24  # bytes of RGB pixels, about; decoding takes a few times as much
_PIECE = 2**20  # bytes of a file at once
_PNG = b"\x89PNG\r\n\x1a\n"
_SAVE_OTHERWISE = "save it as TIFF in strips, as PNG or as BMP, or cut it up"
_COLOURS_OF_BYTES = {1: 0, 2: 4, 3: 2, 4: 6}  # bytes a pixel: PNG's type of colours of 8 bits
# Tags of a TIFF that say how pixels are stored; all others are left out.
_TIFF_TAGS = (256, 258, 259, 262, 266, 277, 284, 317, 320, 322, 323, 338, 339, 347, 530, 532)


def size(path: str | os.PathLike[str], rules: Rules) -> tuple[int, int]:
    """(width, height) of a photo however large; the header alone is decoded.

    Raises:
      ImageError: not an image, damaged, or a side above ``photo.MAX_SIDE``.
    """
    return images.photo_size(path, dataclasses.replace(rules, photo_mib=math.inf))


def read(path: str | os.PathLike[str], rules: Rules) -> Iterator[np.ndarray]:
    """Strips [k, w, 3] uint8 of k rows from top to bottom, equal to those of ``images.read_image``.

    Args:
      path: a local TIFF, PNG or BMP.
      rules: of ``config.data``; ``photo_mib`` limits a strip.

    Raises:
      ImageError: a file that cannot be read in strips, damaged, or outside the rules.
    """
    try:
        with _opened(path) as file:
            any_size = dataclasses.replace(rules, photo_mib=math.inf)
            image = photo.decode(file, any_size, lambda image, _: _upright(image))
            missing = image.height
            most = min(_STRIP, rules.photo_mib * 2**20 / 4)
            at_once = max(int(most / (3 * image.width)), 1)
            for part in _SPLITTERS[image.format](file, image, at_once):
                pixels = photo.decode(part, rules)
                missing -= len(pixels)
                yield pixels
            if missing:
                raise BadImage("is damaged (rows are missing): restore or remove it")
    except BadImage as error:
        raise images.ImageError(f"{path} {error}") from error
    except (OSError, LookupError, ValueError, TypeError, struct.error, zlib.error) as error:
        raise images.ImageError(f"{path} is damaged ({error}): restore or remove it") from error


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    if storage.is_remote(os.fspath(path)):
        raise BadImage("is too large to be held, and not of this machine: copy it here")
    return open_regular(path)


def _upright(image: Image.Image) -> Image.Image:
    said = f"is {image.width} × {image.height} pixels, too many to be held at once"
    if image.format not in _SPLITTERS:
        raise BadImage(f"{said}, and a {image.format}, which has no strips: {_SAVE_OTHERWISE}")
    if images.orientation(image) != 1:
        raise BadImage(f"{said}, and turned by its orientation tag: save it upright")
    return image


def _tiff(file: BinaryIO, image: Image.Image, at_once: int) -> Iterator[bytes]:
    tags, (width, height) = image.tag_v2, image.size
    tiled, plain = 324 in tags, tags.get(259, 1) == 1
    if tags.get(284, 1) != 1 or tags.get(259, 1) == 6 or (plain and tags.get(262) == 6):
        raise BadImage("is a TIFF whose strips cannot be read one by one: save it as plain RGB")
    offsets = _numbers(tags[324 if tiled else 273])
    step = tags[323] if tiled else min(tags.get(278, height), height)
    if plain and not tiled:
        row = -(-width * sum(_numbers(tags.get(258, 1))) * (tags.get(277, 1) if 258 not in tags
                else 1) // 8)  # fmt: skip
        for top, offset in zip(range(0, height, step), offsets, strict=True):
            for y in range(0, min(step, height - top), at_once):
                rows = min(at_once, step - y, height - top - y)
                yield _small_tiff(file, tags, rows, rows, [(offset + y * row, rows * row)])
        return
    if step > max(at_once, 512):
        raise BadImage(f"holds {step} rows in one compressed strip: {_SAVE_OTHERWISE}")
    across = -(-width // tags[322]) if tiled else 1
    places = list(zip(offsets, _numbers(tags[325 if tiled else 279]), strict=True))
    many = max(at_once // step, 1)
    for top in range(0, height, many * step):
        first = top // step * across
        rows = min(many * step, height - top)
        yield _small_tiff(file, tags, rows, step, places[first : first + many * across])


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _small_tiff(
    file: BinaryIO,
    tags: TiffImagePlugin.ImageFileDirectory_v2,
    rows: int,
    rows_a_strip: int,
    places: list[tuple[int, int]],
) -> bytes:
    """The strips, or tiles, at these (offset, bytes) as a file of ``rows`` rows."""
    parts = [_at(file, *place) for place in places]
    begins = np.cumsum([0, *map(len, parts)])[:-1].tolist()
    order = "<" if tags.prefix == b"II" else ">"
    header = struct.pack(f"{order}2sHL", tags.prefix, 42, 8)
    ifd = TiffImagePlugin.ImageFileDirectory_v2(header)
    for tag in _TIFF_TAGS:
        if tag in tags:
            ifd.tagtype[tag] = tags.tagtype[tag]
            ifd[tag] = tags[tag]
    at, counts = (324, 325) if 324 in tags else (273, 279)
    long_numbers = {257: rows, at: tuple(begins), counts: tuple(map(len, parts))}
    for tag, value in (long_numbers if at == 324 else long_numbers | {278: rows_a_strip}).items():
        ifd.tagtype[tag] = 4
        ifd[tag] = value
    if at == 324:  # Pillow moves the places of strips behind the tags by itself
        end = 8 + len(ifd.tobytes(8))
        ifd[at] = tuple(begin + end for begin in begins)
    return header + ifd.tobytes(8) + b"".join(parts)


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    if length > 64 * _STRIP:
        raise BadImage(f"holds {length} bytes in one strip: {_SAVE_OTHERWISE}")
    file.seek(offset)
    data = file.read(length)
    if len(data) < length:
        raise BadImage("is damaged (its end is missing): restore or remove it")
    return data


def _bmp(file: BinaryIO, image: Image.Image, at_once: int) -> Iterator[bytes]:
    head = _at(file, 0, 54)
    offset, length, width, height, _, bits, compression = struct.unpack_from("<LLllHHL", head, 10)
    if length < 40 or compression not in (0, 3):
        raise BadImage(f"is a BMP of an unusual kind: {_SAVE_OTHERWISE}")
    head = bytearray(_at(file, 0, offset))
    row = (width * bits + 31) // 32 * 4
    for top in range(0, abs(height), at_once):
        rows = min(at_once, abs(height) - top)
        first = top if height < 0 else height - top - rows  # they lie from bottom to top
        struct.pack_into("<l", head, 22, rows if height > 0 else -rows)
        yield bytes(head) + _at(file, offset + first * row, rows * row)


def _png(file: BinaryIO, image: Image.Image, at_once: int) -> Iterator[bytes]:
    """PNG's filters combine a row with the one above; Pillow undoes them, on bytes as on colours.

    The rows then become a PNG without filters.
    """
    header, palette, stream = _png_chunks(file)
    width, height, bits, colours, _, _, interlaced = struct.unpack(">LLBBBBB", header)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    row, of_pixel = -(-width * bits * channels // 8), max(bits * channels // 8, 1)
    if interlaced or of_pixel not in _COLOURS_OF_BYTES:
        raise BadImage(f"is an interlaced PNG, or of 16-bit colours: {_SAVE_OTHERWISE}")
    inflate, rest, above = zlib.decompressobj(), b"", bytes(row)
    for top in range(0, height, at_once):
        rows = min(at_once, height - top)
        filtered = bytearray()
        while len(filtered) < rows * (row + 1):
            rest = rest or next(stream, b"")
            if not rest:
                raise BadImage("is damaged (its end is missing): restore or remove it")
            filtered += inflate.decompress(rest, rows * (row + 1) - len(filtered))
            rest = inflate.unconsumed_tail
        as_bytes = _small_png(
            (row // of_pixel, rows + 1, 8, _COLOURS_OF_BYTES[of_pixel]),
            b"",
            b"\0" + above + filtered,
        )
        raw = photo.decode(as_bytes, Rules("bilinear", photo_mib=math.inf), _bytes_of)
        raw = raw.reshape(rows + 1, row)[1:]
        above = raw[-1].tobytes()
        plain = np.pad(raw, ((0, 0), (1, 0))).tobytes()
        yield _small_png((width, rows, bits, colours), palette, plain)


def _bytes_of(image: Image.Image, rules: Rules) -> np.ndarray:
    del rules
    return np.asarray(image)


def _png_chunks(file: BinaryIO) -> tuple[bytes, bytes, Iterator[bytes]]:
    """The header, the palette's chunks, and the compressed rows piece by piece."""
    header, palette = b"", b""
    file.seek(len(_PNG))
    while True:
        length, name = struct.unpack(">L4s", file.read(8))
        if name == b"IDAT":
            return header, palette, _png_data(file, length)
        data = _at(file, file.tell(), length)
        if name == b"IHDR":
            header = data
        elif name in (b"PLTE", b"tRNS"):
            palette += _chunk(name, data)
        file.seek(4, os.SEEK_CUR)  # its checksum: Pillow has looked at it


def _png_data(file: BinaryIO, length: int) -> Iterator[bytes]:
    name = b"IDAT"
    while name == b"IDAT":
        checksum = zlib.crc32(name)
        while length and (piece := file.read(min(length, _PIECE))):
            checksum = zlib.crc32(piece, checksum)
            length -= len(piece)
            yield piece
        if struct.unpack(">L", file.read(4)) != (checksum,):
            raise BadImage("is damaged (a checksum is wrong): restore or remove it")
        length, name = struct.unpack(">L4s", file.read(8))


def _small_png(header: tuple[int, int, int, int], palette: bytes, rows: bytes) -> bytes:
    parts = _chunk(b"IHDR", struct.pack(">LLBB3x", *header)), palette
    return b"".join((_PNG, *parts, _chunk(b"IDAT", zlib.compress(rows, 0)), _chunk(b"IEND", b"")))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


_SPLITTERS = {"TIFF": _tiff, "PNG": _png, "BMP": _bmp}
