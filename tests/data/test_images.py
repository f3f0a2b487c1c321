"""Decoding and resizing: formats, golden values, errors that name the file."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from photo_case import ANTIALIAS, BILINEAR, GRADIENT, RGB, save
from PIL import Image, PngImagePlugin

from diffad_jax.data import images, strips
from diffad_jax.data.images import ImageError
from diffad_jax.data.photo import Rules


def with_alpha(image, alpha=9):
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
def test_lossless_formats(tmp_path, suffix):
    path = save(tmp_path / f"photo{suffix}", RGB)
    np.testing.assert_array_equal(images.read_image(path, None, BILINEAR), RGB)


def test_jpeg_is_close(tmp_path):
    rgb = np.repeat(GRADIENT[..., None], 3, axis=-1)
    got = images.read_image(save(tmp_path / "a.jpg", rgb, quality=95), None, BILINEAR)
    assert np.abs(got.astype(int) - rgb).max() < 8


def test_cmyk_is_close(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    got = images.read_image(tmp_path / "a.jpg", None, BILINEAR)
    assert np.abs(got.astype(int) - RGB).max() < 12


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_alpha_and_bilevel(tmp_path, suffix):
    grey = np.repeat(GRADIENT[..., None], 3, axis=-1)
    cases = {
        "grey": (Image.fromarray(GRADIENT), grey),
        "grey_alpha": (with_alpha(Image.fromarray(GRADIENT)), grey),
        "rgba": (with_alpha(Image.fromarray(RGB)), RGB),
        "palette": (Image.fromarray(GRADIENT).convert("P"), grey),
        "bilevel": (Image.fromarray(GRADIENT > 60), np.where(grey > 60, 255, 0)),
    }
    for name, (image, want) in cases.items():
        image.save(tmp_path / f"{name}{suffix}")
        got = images.read_image(tmp_path / f"{name}{suffix}", None, BILINEAR)
        np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("transparency", [3, bytes([0, 128, 255])])
def test_a_palette_with_transparency_keeps_its_colours(tmp_path, transparency):
    image = Image.fromarray(GRADIENT % 4).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    image.save(tmp_path / "a.png", transparency=transparency)
    got = images.read_image(tmp_path / "a.png", None, BILINEAR)
    np.testing.assert_array_equal(got[..., 1], 20 + 30 * (GRADIENT % 4))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    path = save(tmp_path / f"deep{suffix}", GRADIENT.astype(np.uint16) * 257)
    np.testing.assert_array_equal(images.read_image(path, None, BILINEAR)[..., 0], GRADIENT)


def test_thirty_two_bit_integers_are_taken_as_sixteen(tmp_path):
    path = save(tmp_path / "deep.tif", GRADIENT.astype(np.int32) * 257)
    np.testing.assert_array_equal(images.read_image(path, None, BILINEAR)[..., 0], GRADIENT)


def test_floating_point_is_refused(tmp_path):
    path = save(tmp_path / "float.tif", GRADIENT.astype(np.float32) / 255)
    with pytest.raises(ImageError, match="float.tif holds floating-point numbers.*8 or 16 bit"):
        images.read_image(path, None, BILINEAR)


def test_the_cameras_orientation_is_obeyed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    for name in ("turned.png", "turned.jpg", "turned.tif"):
        Image.fromarray(GRADIENT).save(tmp_path / name, exif=exif, quality=100)
        got = images.read_image(tmp_path / name, None, BILINEAR)[..., 0]
        assert np.abs(got.astype(int) - np.rot90(GRADIENT, -1)).max() <= 3
        assert images.photo_size(tmp_path / name, BILINEAR) == (12, 16)
    assert images.photo_size(save(tmp_path / "straight.png", GRADIENT), BILINEAR) == (16, 12)


def behind_pixels(path, chunk):
    """A PNG whose last chunk before its end is this one."""
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:-12] + chunk + data[-12:])
    return path


def png_chunk(name, data):
    checksum = struct.pack(">L", zlib.crc32(name + data))
    return struct.pack(">L", len(data)) + name + data + checksum


TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
DATED = b"date:create\0002026-12-01"


def test_the_size_of_a_png_takes_its_header_alone(tmp_path, monkeypatch):
    paths = [save(tmp_path / name, GRADIENT) for name in ("plain.png", "dated.png")]
    behind_pixels(paths[1], png_chunk(b"tEXt", DATED))
    with monkeypatch.context() as no_pixels:
        no_pixels.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("decoded"))
        assert [images.photo_size(path, BILINEAR) for path in paths] == 2 * [(16, 12)]
        assert strips.size(paths[0], BILINEAR) == (16, 12)
        image = Image.open(paths[0])
        assert images.orientation(image) == 1
    image.load()  # the file is where Pillow left it
    np.testing.assert_array_equal(np.asarray(image), GRADIENT)


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"eXIf", TURNED),
        png_chunk(b"tEXt", DATED) + png_chunk(b"eXIf", TURNED),
        png_chunk(b"tEXt", b'XML:com.adobe.xmp\0<a tiff:Orientation="6"/>'),
    ],
    ids=["exif", "exif after a date", "xmp"],
)
def test_an_orientation_behind_the_pixels_of_a_png_is_obeyed(tmp_path, chunk):
    path = behind_pixels(save(tmp_path / "turned.png", GRADIENT), chunk)
    assert images.photo_size(path, BILINEAR) == (12, 16)
    assert images.read_image(path, None, BILINEAR).shape == (16, 12, 3)


def test_bilinear_equals_cv2(tmp_path):
    y, x = np.mgrid[0:7, 0:11]
    path = save(tmp_path / "a.png", ((37 * x + 59 * y + x * y * 13) % 256).astype(np.uint8))
    # cv2.resize(..., (5, 5)) of OpenCV 5.0.0; its weights have 11 bits, hence the one level.
    want = [
        [36, 123, 158, 41, 107],
        [129, 133, 127, 101, 187],
        [223, 134, 45, 161, 123],
        [121, 185, 116, 149, 80],
        [154, 155, 136, 168, 149],
    ]
    got = images.read_image(path, 5, BILINEAR)[..., 0].astype(int)
    np.testing.assert_allclose(got, want, atol=1)


def test_bilinear_takes_the_four_nearest_pixels(tmp_path):
    # 4 -> 2 by centres at halves: output 0 lies between inputs 0 and 1, output 1 between 2 and 3.
    row = np.array([[0, 10, 100, 200]] * 4, np.uint8)
    got = images.read_image(save(tmp_path / "a.png", row), 2, BILINEAR)
    np.testing.assert_array_equal(got[..., 0], [[5, 150], [5, 150]])
    # 8 -> 2: inputs 1, 2 and 5, 6 alone count, unlike with antialiasing.
    row = np.array([[255, 0, 0, 255, 255, 0, 0, 255]] * 8, np.uint8)
    path = save(tmp_path / "b.png", row)
    np.testing.assert_array_equal(images.read_image(path, 2, BILINEAR)[..., 0], [[0, 0]] * 2)
    assert images.read_image(path, 2, ANTIALIAS).min() > 50


def test_antialias_is_pillows(tmp_path):
    path = save(tmp_path / "a.png", RGB)
    want = Image.fromarray(RGB).resize((5, 5), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(images.read_image(path, 5, ANTIALIAS), np.asarray(want))


def test_misspelt_rules_are_named():
    with pytest.raises(ValueError, match="config.data.resize = 'bicubic': choose bilinear"):
        Rules("bicubic")
