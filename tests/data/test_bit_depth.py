"""Photos of cameras that fill 10 or 12 of 16 bits: brightness, what is kept, what is refused."""

import json
import struct
import zlib

import ml_collections
import numpy as np
import pytest
from PIL import Image

from diffad_jax.data import bit_depth, images, photo
from diffad_jax.data.images import ImageError
from diffad_jax.data.photo import Rules
from diffad_jax.errors import ConfigError

RULES = Rules("bilinear", bit_depth=12)
LEVELS = np.add.outer(300 * np.arange(6), 290 * np.arange(9)).astype(np.uint16)  # 0 … 3820
BRIGHT = np.round(LEVELS / 4095 * 255).astype(np.uint8)


def png16(levels, colour_type, interlace=0):
    """A PNG with 16 bits a channel, which Pillow writes of grey alone."""
    height, width = levels.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, interlace)),
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    )
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d))
             for n, d in chunks]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff16(levels, order="<", planes=1):
    """An uncompressed RGB TIFF with 16 bits a channel."""
    height, width, channels = levels.shape
    data = levels if planes == 1 else np.moveaxis(levels, -1, 0)
    data = data.astype(f"{order}u2").tobytes()
    strips = 1 if planes == 1 else channels
    tags = [(256, 4, (width,)), (257, 4, (height,)), (258, 3, (16,) * channels), (259, 3, (1,)),
            (262, 3, (2,)), (273, 4, range(8, 8 + len(data), len(data) // strips)),
            (277, 3, (channels,)), (278, 4, (height,)),
            (279, 4, (len(data) // strips,) * strips), (284, 3, (planes,))]  # fmt: skip
    more_at = 8 + len(data) + 2 + 12 * len(tags) + 4
    entries, more = b"", b""
    for tag, kind, values in tags:
        values = tuple(values)
        packed = struct.pack(f"{order}{len(values)}{'HI'[kind == 4]}", *values)
        if len(packed) > 4:
            packed, more = struct.pack(f"{order}I", more_at + len(more)), more + packed
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4 + more


def files_of(tmp_path, name):
    """The same photo in a kind of file: [6, 9] or [6, 9, 3] of ``LEVELS``, channels 1, 1/2, 1/4."""
    colours = np.stack([LEVELS, LEVELS // 2, LEVELS // 4], axis=-1)
    path = tmp_path / f"{name}.png"
    if name == "grey.png":
        Image.fromarray(LEVELS).save(path, "PNG")
    elif name == "grey.tif":
        Image.fromarray(LEVELS).save(path, "TIFF")
    elif name == "grey.lzw":
        Image.fromarray(LEVELS).save(path, "TIFF", compression="tiff_lzw")
    elif name == "rgb.png":
        path.write_bytes(png16(colours, 2))
    elif name == "rgba.png":
        path.write_bytes(png16(np.concatenate([colours, LEVELS[..., None] * 0 + 9], -1), 6))
    else:
        path.write_bytes(tiff16(colours, "<" if name == "rgb.tif" else ">"))
    return path


KINDS = ("grey.png", "grey.tif", "grey.lzw", "rgb.png", "rgba.png", "rgb.tif", "rgb.big.tif")


@pytest.mark.parametrize("kind", KINDS)
def test_twelve_bits_are_as_bright_as_eight(tmp_path, kind):
    path = files_of(tmp_path, kind)
    got = images.read_image(path, None, RULES)
    np.testing.assert_array_equal(got[..., 0], BRIGHT)
    shares = (1, 2, 4) if kind.startswith("rgb") else (1, 1, 1)
    for channel, share in enumerate(shares):
        want = np.round(LEVELS // share / 4095 * 255)
        np.testing.assert_array_equal(got[..., channel], want)
    assert bit_depth.detect([str(path)], RULES) == 12


def test_a_turned_colour_photo_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    colours = np.stack([LEVELS] * 3, axis=-1)
    data = png16(colours, 2)
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = (
        struct.pack(">I", len(body))
        + b"eXIf"
        + body
        + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    )
    got = photo.decode(data[:33] + chunk + data[33:], RULES)
    np.testing.assert_array_equal(got[..., 0], np.rot90(BRIGHT, -1))


@pytest.mark.parametrize(("top", "want"), [(255, 8), (256, 10), (1023, 10), (1024, 12),
                                           (16383, 14), (16384, 16)])  # fmt: skip
def test_the_least_depth_that_holds_all_photos(tmp_path, top, want):
    files = []
    for i, level in enumerate((7, top)):
        Image.fromarray(np.full((4, 4), level, np.uint16)).save(tmp_path / f"{i}.png")
        files.append(str(tmp_path / f"{i}.png"))
    (tmp_path / "bad.png").write_bytes(b"x")
    assert bit_depth.detect([*files, str(tmp_path / "bad.png")], RULES) == want


def test_of_eight_bits_the_pixels_are_not_decoded(tmp_path):
    Image.fromarray(BRIGHT).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:-30])  # would be an error
    assert bit_depth.detect([str(tmp_path / "a.png")], RULES) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_outside_is_named(tmp_path, kind):
    path = files_of(tmp_path, kind)
    said = rf"{kind}.png has levels 0 … 3820, outside the 0 … 1023 of the detector's 10-bit photos"
    with pytest.raises(ImageError, match=said):
        images.read_image(path, None, Rules("bilinear", bit_depth=10))
    with pytest.raises(ImageError, match=r"name them in config.data.bit_depth, such as 12"):
        images.read_image(path, None, Rules("bilinear", bit_depth=0))
    with pytest.raises(ImageError, match="outside the 0 … 255 of the detector's 8-bit photos"):
        images.read_image(path, None, Rules("bilinear", bit_depth=8))


def test_what_pillow_would_cut_to_eight_bit_is_named():
    with pytest.raises(photo.BadImage, match="16 bits a channel in an unusual order: save it as"):
        photo.decode(tiff16(np.stack([LEVELS] * 3, axis=-1), planes=2), RULES)
    grey_alpha = np.stack([LEVELS, LEVELS], axis=-1)
    with pytest.raises(photo.BadImage, match="16 bits a channel in an unusual order"):
        photo.decode(png16(grey_alpha, 4), RULES)


def config_of(depth=0):
    return ml_collections.ConfigDict({"data": {"bit_depth": depth}})


def test_what_training_found_is_kept_beside_the_weights(tmp_path):
    assert bit_depth.stored(config_of(), tmp_path).data.bit_depth == 0
    assert bit_depth.settle(config_of(), tmp_path, lambda: 12).data.bit_depth == 12
    assert json.loads((tmp_path / bit_depth.FILE).read_text()) == {"bit_depth": 12}
    # Brighter photos since then change nothing.
    again = bit_depth.settle(config_of(), tmp_path, lambda: pytest.fail("looked again"))
    assert again.data.bit_depth == 12
    frozen = ml_collections.FrozenConfigDict(config_of())
    assert bit_depth.stored(frozen, tmp_path).data.bit_depth == 12
    with pytest.raises(ConfigError, match="bit_depth = 14: the weights .* on photos of 12 bit"):
        bit_depth.stored(config_of(14), tmp_path)
    stated = bit_depth.settle(config_of(14), tmp_path / "new", lambda: pytest.fail("looked"))
    assert stated.data.bit_depth == 14 and (tmp_path / "new" / bit_depth.FILE).exists()


def test_one_categorys_bit_depth_is_no_other_ones(tmp_path):
    """They are trained with one config, one after the other."""
    config = config_of()
    assert bit_depth.settle(config, tmp_path / "a", lambda: 8).data.bit_depth == 8
    assert bit_depth.settle(config, tmp_path / "b", lambda: 12).data.bit_depth == 12
    assert config.data.bit_depth == 0
