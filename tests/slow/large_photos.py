"""Photos as large as ``photo_mib`` lets them be, and files that are all metadata."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from diffad_jax.data import images

MIB = 2**20
PHOTO_MIB = 64.0
SIDE = int((PHOTO_MIB * MIB / 3) ** 0.5)


def pixels(*channels: int, dtype: type = np.uint8, height: int = SIDE, width: int = SIDE):
    """Drawn, with few rows that differ: quick to store."""
    rows = np.random.default_rng(0).integers(0, 256, (16, width, *channels), dtype=dtype)
    return np.tile(rows, (-(-height // 16), *([1] * (1 + len(channels)))))[:height]


def image(form: str, *channels: int, dtype: type = np.uint8, mode: str = "", height: int = SIDE,
           width: int = SIDE, **options: object) -> Callable[[Path], None]:  # fmt: skip
    def make(path: Path) -> None:
        made = Image.fromarray(pixels(*channels, dtype=dtype, height=height, width=width))
        made = made.convert(mode) if mode else made
        made.save(path, form, **({"compress_level": 1} if form == "PNG" else {}), **options)

    return make


def deep_tiff(path: Path) -> None:
    """RGB of 16 bits, which Pillow does not write."""
    drawn = pixels(3, dtype=np.uint16)
    tags = [(256, 4, SIDE), (257, 4, SIDE), (258, 3, 0), (259, 3, 1), (262, 3, 2), (273, 4, 0),
            (277, 3, 3), (278, 4, SIDE), (279, 4, drawn.nbytes)]  # fmt: skip
    after = 8 + 2 + 12 * len(tags) + 4
    places = {258: after, 273: after + 6}
    ifd = struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        ifd += struct.pack("<HHII", tag, kind, 3 if tag == 258 else 1, places.get(tag, value))
    with path.open("wb") as file:
        file.write(b"II*\0\x08\0\0\0" + ifd + bytes(4) + struct.pack("<3H", 16, 16, 16))
        file.write(drawn)


def segments(path: Path, marker: bytes) -> None:
    """A JPEG as large as a file may be, most of it metadata."""
    whole = io.BytesIO()
    Image.new("RGB", (64, 64)).save(whole, "JPEG")
    data = whole.getvalue()
    segment = marker + struct.pack(">H", 65535) + b"Exif\0\0" + bytes(65535 - 8)
    count = int(images._FILE_TO_PIXELS * PHOTO_MIB * MIB) // len(segment) - 1
    with path.open("wb") as file:
        file.write(data[:2])
        for _ in range(count):
            file.write(segment)
        file.write(data[2:])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def chunks(path: Path, kind: bytes, body: Callable[[int], bytes], many: int = 1) -> None:
    """A PNG as large as a file may be, most of it chunks of one kind."""
    whole = io.BytesIO()
    Image.new("RGB", (64, 64)).save(whole, "PNG")
    data = whole.getvalue()
    most = int(images._FILE_TO_PIXELS * PHOTO_MIB * MIB) - len(data) - 64
    with path.open("wb") as file:
        file.write(data[:33])
        for _ in range(many):
            file.write(_chunk(kind, body(most // many - 12)))
        file.write(data[33:])


def compressed(size: int) -> bytes:
    return b"a\0\0" + zlib.compress(bytes(size), 0)[: size - 3]
