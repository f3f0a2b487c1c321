"""Decoding and resizing: formats, golden values, errors that name the file."""

import functools
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffad_jax.data import images
from diffad_jax.data.images import ImageError

GRADIENT = np.add.outer(8 * np.arange(12), 5 * np.arange(16)).astype(np.uint8)
RGB = np.stack([GRADIENT, GRADIENT // 2, 255 - GRADIENT], axis=-1)


def save(path, array, **kwargs):
    Image.fromarray(array).save(path, **kwargs)
    return str(path)


def with_alpha(image, alpha=9):
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
def test_lossless_formats(tmp_path, suffix):
    path = save(tmp_path / f"photo{suffix}", RGB)
    np.testing.assert_array_equal(images.read_image(path, None, "bilinear"), RGB)


def test_jpeg_is_close(tmp_path):
    rgb = np.repeat(GRADIENT[..., None], 3, axis=-1)
    got = images.read_image(save(tmp_path / "a.jpg", rgb, quality=95), None, "bilinear")
    assert np.abs(got.astype(int) - rgb).max() < 8


def test_cmyk_is_close(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    got = images.read_image(tmp_path / "a.jpg", None, "bilinear")
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
        got = images.read_image(tmp_path / f"{name}{suffix}", None, "bilinear")
        np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("transparency", [3, bytes([0, 128, 255])])
def test_a_palette_with_transparency_keeps_its_colours(tmp_path, transparency):
    image = Image.fromarray(GRADIENT % 4).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    image.save(tmp_path / "a.png", transparency=transparency)
    got = images.read_image(tmp_path / "a.png", None, "bilinear")
    np.testing.assert_array_equal(got[..., 1], 20 + 30 * (GRADIENT % 4))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    path = save(tmp_path / f"deep{suffix}", GRADIENT.astype(np.uint16) * 257)
    np.testing.assert_array_equal(images.read_image(path, None, "bilinear")[..., 0], GRADIENT)


def test_thirty_two_bit_integers_are_taken_as_sixteen(tmp_path):
    path = save(tmp_path / "deep.tif", GRADIENT.astype(np.int32) * 257)
    np.testing.assert_array_equal(images.read_image(path, None, "bilinear")[..., 0], GRADIENT)


def test_floating_point_is_refused(tmp_path):
    path = save(tmp_path / "float.tif", GRADIENT.astype(np.float32) / 255)
    with pytest.raises(ImageError, match="float.tif holds floating-point numbers.*8 or 16 bit"):
        images.read_image(path, None, "bilinear")


def test_the_cameras_orientation_is_obeyed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    for name in ("turned.png", "turned.jpg"):
        Image.fromarray(GRADIENT).save(tmp_path / name, exif=exif, quality=100)
        got = images.read_image(tmp_path / name, None, "bilinear")[..., 0]
        assert np.abs(got.astype(int) - np.rot90(GRADIENT, -1)).max() <= 3
        assert images.photo_size(tmp_path / name) == (12, 16)
    assert images.photo_size(save(tmp_path / "straight.png", GRADIENT)) == (16, 12)


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
    got = images.read_image(path, 5, "bilinear")[..., 0].astype(int)
    np.testing.assert_allclose(got, want, atol=1)


def test_bilinear_takes_the_four_nearest_pixels(tmp_path):
    # 4 -> 2 by centres at halves: output 0 lies between inputs 0 and 1, output 1 between 2 and 3.
    row = np.array([[0, 10, 100, 200]] * 4, np.uint8)
    got = images.read_image(save(tmp_path / "a.png", row), 2, "bilinear")
    np.testing.assert_array_equal(got[..., 0], [[5, 150], [5, 150]])
    # 8 -> 2: inputs 1, 2 and 5, 6 alone count, unlike with antialiasing.
    row = np.array([[255, 0, 0, 255, 255, 0, 0, 255]] * 8, np.uint8)
    path = save(tmp_path / "b.png", row)
    np.testing.assert_array_equal(images.read_image(path, 2, "bilinear")[..., 0], [[0, 0]] * 2)
    assert images.read_image(path, 2, "antialias").min() > 50


def test_antialias_is_pillows(tmp_path):
    path = save(tmp_path / "a.png", RGB)
    want = Image.fromarray(RGB).resize((5, 5), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(images.read_image(path, 5, "antialias"), np.asarray(want))


def test_misspelt_rules_are_named(tmp_path):
    path = save(tmp_path / "a.png", GRADIENT)
    with pytest.raises(ValueError, match="config.data.resize = 'bicubic': choose bilinear"):
        images.read_image(path, 5, "bicubic")
    with pytest.raises(ValueError, match="config.evaluation.mask_rule = 'some': choose full"):
        images.read_mask(path, 5, "some")


@pytest.mark.parametrize(("rule", "want"), [("full", 1), ("half", 2), ("any", 3)])
def test_mask_rules(tmp_path, rule, want):
    # Resized 6 -> 3: columns of 50, 200 and 255.
    mask = np.zeros((6, 6), np.uint8)
    mask[:, 1], mask[:, 2:4], mask[:, 4:] = 100, 200, 255
    path = save(tmp_path / "mask.png", mask)
    got = images.read_mask(path, 3, rule, (6, 6))
    assert got.dtype == np.uint8 and got[0].sum() == want
    np.testing.assert_array_equal(np.unique(images.read_mask(path, None, rule)), [0, 1])


def test_full_counts_what_rounds_to_white(tmp_path):
    # As in the published code, which resizes 8-bit masks: 254.5 rounds to 255, 254.49 does not.
    mask = np.full((4, 4), 255, np.uint8)
    mask[0], mask[1, :2] = 254, 253
    got = images.read_mask(save(tmp_path / "mask.png", mask), 2, "full")
    np.testing.assert_array_equal(got, [[0, 1], [1, 1]])


def test_masks_of_class_numbers_and_of_colours(tmp_path):
    numbers = np.arange(16, dtype=np.uint8).reshape(4, 4) % 4
    want = np.where(numbers > 0, 255, 0)
    save(tmp_path / "grey.png", numbers)
    save(tmp_path / "deep.png", numbers.astype(np.uint16))
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 128 * (numbers > 0)
    save(tmp_path / "red.png", red)
    palette = Image.fromarray(numbers).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    palette.save(tmp_path / "palette.png")
    for name in ("grey", "deep", "red", "palette"):
        got = images.mask_levels(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(got, want, err_msg=name)


def test_noisy_grey_masks_keep_their_levels(tmp_path):
    mask = np.array([[0, 4, 9], [120, 250, 255]], np.uint8)
    np.testing.assert_array_equal(images.mask_levels(save(tmp_path / "m.png", mask)), mask)


def test_a_mask_of_another_size_is_refused(tmp_path):
    path = save(tmp_path / "mask.png", GRADIENT)
    with pytest.raises(ImageError, match=r"mask.png is 16 × 12, its photo 8 × 8"):
        images.read_mask(path, 4, "half", (8, 8))


def encoded(form: str, **kwargs) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, form, **kwargs)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "empty file"),
        ("text.png", b"not a picture\n", "no image that can be decoded"),
        ("cut.jpg", encoded("JPEG")[:700], "damaged"),
        ("cut.png", encoded("PNG")[:700], "damaged"),
        ("cut.tif", encoded("TIFF", compression="tiff_lzw")[:700], "damaged|no image"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as error:
        images.read_image(path, 8, "bilinear")
    assert str(path) in str(error.value)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of odd metadata
@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF"])
def test_damage_of_any_kind_is_an_image_error_or_an_image(tmp_path, form):
    whole, rng = encoded(form), np.random.default_rng(0)
    path = tmp_path / "damaged.png"
    for _ in range(60):
        content = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
        for place in rng.integers(0, min(len(content), 200), 4):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            assert images.read_image(path, 8, "bilinear").shape == (8, 8, 3)
        except ImageError as error:
            assert "damaged.png" in str(error)


def test_too_large_is_said(tmp_path, monkeypatch):
    path = save(tmp_path / "huge.png", GRADIENT)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(ImageError, match="huge.png is too large .*scale it down"):
        images.read_image(path, 8, "bilinear")


def test_missing_files_folders_named_like_images_and_loops(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("absent.png", "folder.png", "loop.png"):
        with pytest.raises(ImageError, match=f"cannot read .*{name}"):
            images.read_image(tmp_path / name, 8, "bilinear")


def test_unreadable_files_are_named(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", GRADIENT)

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(images.epath.Path(path)), "read_bytes", refuse)
    with pytest.raises(ImageError, match="cannot read .*a.png: Permission denied"):
        images.read_image(path, 8, "bilinear")


def test_long_and_foreign_names(tmp_path):
    path = save(tmp_path / ("größe_ネジ_" + "x" * 200 + ".png"), GRADIENT)
    assert images.read_image(path, 8, "bilinear").shape == (8, 8, 3)


def test_bad_images_fail_or_are_listed(tmp_path):
    good = save(tmp_path / "good.png", GRADIENT)
    (tmp_path / "bad.png").write_bytes(b"")
    files = [str(tmp_path / "bad.png"), good]
    with pytest.raises(ImageError, match="bad.png"):
        images.read_images(files, 8, "antialias", "fail")
    pixels, kept, skipped = images.read_images(files, 8, "antialias", "skip")
    np.testing.assert_array_equal(pixels[0], images.read_image(good, 8, "antialias"))
    assert len(pixels) == 1 and kept == [1]
    assert skipped[0][0] == files[0] and "empty" in skipped[0][1]
    with pytest.raises(ImageError, match="none of 1 images could be read; the first: .*bad.png"):
        images.read_images(files[:1], 8, "antialias", "skip")
    with pytest.raises(ImageError, match="none of 0 images"):
        images.read_images([], 8, "antialias", "skip")


def test_mixed_sizes_keep_their_order(tmp_path):
    files = [save(tmp_path / f"{i}.png", np.full((5 + i, 9), i, np.uint8)) for i in range(20)]
    pixels, kept, _ = images.read_images(files, 4, "bilinear")
    assert kept == list(range(20)) and (pixels[:, 0, 0, 0] == np.arange(20)).all()


def test_batches_pass_over_bad_images_even_whole_batches_of_them(tmp_path):
    files = [save(tmp_path / f"{i}.png", np.full((8, 8), i, np.uint8)) for i in range(7)]
    for i in (1, 2, 3, 6):
        Path(files[i]).write_bytes(b"")
    read = functools.partial(images.read_batches, batch_size=2, image_size=8, resize="bilinear")
    batches = list(read(files, on_bad_image="skip"))
    assert [batch[:, 0, 0, 0].tolist() for batch in batches] == [[0], [4, 5]]
    with pytest.raises(ImageError, match=r"1\.png is an empty file"):
        list(read(files))
    with pytest.raises(ImageError, match="none of 2 images could be read; the first: .*1.png"):
        list(read(files[1:3], on_bad_image="skip"))
