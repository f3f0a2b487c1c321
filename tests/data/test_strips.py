"""Strips of a photo are the rows that the whole photo gives."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from diffad_jax.data import images, strips
from diffad_jax.data.images import ImageError
from diffad_jax.data.photo import Rules

RULES = Rules("bilinear")
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (83, 61, 3), np.uint8)
DEEP = RNG.integers(0, 2**16, (83, 61), np.uint16)
CASES = {
    "rgb.png": Image.fromarray(COLOURS),
    "grey.png": Image.fromarray(COLOURS[..., 0]),
    "alpha.png": Image.fromarray(RNG.integers(0, 256, (83, 61, 4), np.uint8)),
    "palette.png": Image.fromarray(COLOURS).quantize(200),
    "four_bits.png": Image.fromarray(COLOURS).quantize(11),
    "one_bit.png": Image.fromarray(COLOURS[..., 0] > 127),
    "deep.png": Image.fromarray(DEEP),
    "rgb.bmp": Image.fromarray(COLOURS),
    "palette.bmp": Image.fromarray(COLOURS).quantize(200),
    "one_bit.bmp": Image.fromarray(COLOURS[..., 0] > 127),
    "rgb.tif": Image.fromarray(COLOURS),
    "deep.tif": Image.fromarray(DEEP),
    "cmyk.tif": Image.fromarray(COLOURS).convert("CMYK"),
    "lab.tif": Image.fromarray(RNG.integers(0, 256, (83, 61, 3), np.uint8), "LAB"),
    "big.tif": Image.fromarray(COLOURS),
    "lzw.tif": Image.fromarray(COLOURS),
    "jpeg.tif": Image.fromarray(COLOURS),
    "deep_deflate.tif": Image.fromarray(DEEP),
}
OPTIONS = {
    "big.tif": {"big_tiff": True},
    "lzw.tif": {"compression": "tiff_lzw", "tiffinfo": {278: 5, 317: 2}},
    "jpeg.tif": {"compression": "jpeg", "tiffinfo": {278: 16}},
    "deep_deflate.tif": {"compression": "tiff_adobe_deflate", "tiffinfo": {278: 4}},
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr("diffad_jax.data.strips._STRIP", 7 * 3 * 61)


def read(path, rules=RULES):
    return list(strips.read(path, rules))


@pytest.mark.parametrize("name", CASES)
def test_strips_are_the_whole_photo(tmp_path, name):
    path = tmp_path / name
    CASES[name].save(path, **OPTIONS.get(name, {}))
    found = read(path)
    assert len(found) > 3 and strips.size(path, Rules("bilinear", photo_mib=0.001)) == (61, 83)
    np.testing.assert_array_equal(np.concatenate(found), images.read_image(path, None, RULES))


def tiff(order, pixels, tile=None):
    """Uncompressed, in one strip or in tiles of (height, width)."""
    height, width, channels = pixels.shape
    th, tw = tile or (height, width)
    full = np.pad(pixels, ((0, -height % th), (0, -width % tw), (0, 0)))
    parts = [full[y : y + th, x : x + tw].astype(f"{order}u{pixels.itemsize}").tobytes()
             for y in range(0, height, th) for x in range(0, width, tw)]  # fmt: skip
    tags = {256: [width], 257: [height], 258: [8 * pixels.itemsize] * channels, 259: [1],
            262: [2 if channels == 3 else 1], 277: [channels]}  # fmt: skip
    tags |= {322: [tw], 323: [th]} if tile else {278: [height]}
    end = 8 + 2 + 12 * (len(tags) + 2) + 4
    more, entries = b"", []
    tags |= {
        324 if tile else 273: [0] * len(parts),
        325 if tile else 279: [len(parts[0])] * len(parts),
    }
    data_at = end + sum(4 * len(v) for v in tags.values() if len(v) > 1)
    tags[324 if tile else 273] = [data_at + i * len(parts[0]) for i in range(len(parts))]
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}L", *values)
        if len(values) > 1:
            at, more = end + len(more), more + packed
            packed = struct.pack(f"{order}L", at)
        entries.append(struct.pack(f"{order}HHL", tag, 4, len(values)) + packed)
    mark = {"<": b"II", ">": b"MM"}[order]
    head = struct.pack(f"{order}2sHLH", mark, 42, 8, len(entries))
    return b"".join((head, *entries, bytes(4), more, *parts))


@pytest.mark.parametrize("tile", [None, (16, 32), (96, 64)])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("pixels", [DEEP[..., None], COLOURS], ids=["deep", "colours"])
def test_tiffs_of_tiles_of_one_strip_and_of_either_byte_order(tmp_path, pixels, order, tile):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(order, pixels, tile))
    whole = images.read_image(path, None, RULES)
    assert whole.shape == COLOURS.shape and len(np.unique(whole)) == 256
    np.testing.assert_array_equal(np.concatenate(read(path)), whole)


def test_a_bmp_from_top_to_bottom(tmp_path):
    path = tmp_path / "a.bmp"
    Image.fromarray(COLOURS).save(path)
    data = bytearray(path.read_bytes())
    data[22:26] = np.int32(-83).tobytes()
    path.write_bytes(data)
    np.testing.assert_array_equal(np.concatenate(read(path)), COLOURS[::-1])


def _saved(form, pixels=COLOURS, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


TURNED = Image.Exif()
TURNED[0x0112] = 6
REFUSED = {
    "a.jpg": (_saved("JPEG"), "is 61 × 83 pixels, too many to be held at once, and a JPEG, which"),
    "turned.tif": (_saved("TIFF", tiffinfo={274: 6}), "orientation tag: save it upright"),
    "turned.png": (_saved("PNG", exif=TURNED), "orientation tag: save it upright"),
    "one_strip.tif": (_saved("TIFF", np.tile(COLOURS, (9, 1, 1)), compression="tiff_lzw",
                             tiffinfo={278: 747}), "747 rows in one compressed strip: save it as"),
    "short.tif": (_saved("TIFF")[:-4000], "damaged"),
    "short.png": (_saved("PNG")[:-4000], "damaged"),
    "short.bmp": (_saved("BMP")[:-4000], "damaged"),
    "other.png": (b"GIF89a" + bytes(60), "is no image that can be decoded"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_in_strips_is_named(tmp_path, name):
    data, said = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=said) as error:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_any_changed_byte_gives_the_photo_or_an_error(tmp_path):
    for form in ("PNG", "BMP", "TIFF"):
        good = _saved(form)
        for at in (*RNG.integers(0, 200, 25), *RNG.integers(0, len(good), 10)):
            bad = bytearray(good)
            bad[at] ^= int(RNG.integers(1, 256))
            (tmp_path / "a").write_bytes(bad)
            try:
                rows = sum(map(len, read(tmp_path / "a")))
            except ImageError:
                continue
            assert rows == strips.size(tmp_path / "a", RULES)[1]
