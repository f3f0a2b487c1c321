"""Decoding and resizing: formats, golden values, errors that name the file."""

import io

import numpy as np
import pytest
from PIL import Image

from diffad_jax.data import images
from diffad_jax.data.images import ImageError

GRADIENT = np.add.outer(8 * np.arange(12), 5 * np.arange(16)).astype(np.uint8)


def save(path, array, **kwargs):
    Image.fromarray(array).save(path, **kwargs)
    return str(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
def test_lossless_formats(tmp_path, suffix):
    rgb = np.stack([GRADIENT, GRADIENT // 2, 255 - GRADIENT], axis=-1)
    path = save(tmp_path / f"photo{suffix}", rgb)
    np.testing.assert_array_equal(images.read_image(path, None, "bilinear"), rgb)


def test_jpeg_is_close(tmp_path):
    rgb = np.repeat(GRADIENT[..., None], 3, axis=-1)
    got = images.read_image(save(tmp_path / "a.jpg", rgb, quality=95), None, "bilinear")
    assert np.abs(got.astype(int) - rgb).max() < 8


def test_grey_alpha_palette_and_bilevel(tmp_path):
    rgb = np.repeat(GRADIENT[..., None], 3, axis=-1)
    alpha = np.full_like(GRADIENT, 9)
    cases = {
        "grey": Image.fromarray(GRADIENT),
        "grey_alpha": Image.merge("LA", [Image.fromarray(GRADIENT), Image.fromarray(alpha)]),
        "rgba": Image.merge("RGBA", [*Image.fromarray(rgb).split(), Image.fromarray(alpha)]),
        "palette": Image.fromarray(GRADIENT).convert("P"),
    }
    for name, image in cases.items():
        image.save(tmp_path / f"{name}.png")
        got = images.read_image(tmp_path / f"{name}.png", None, "bilinear")
        np.testing.assert_array_equal(got, rgb, err_msg=name)
    Image.fromarray(GRADIENT > 60).save(tmp_path / "bilevel.png")
    got = images.read_image(tmp_path / "bilevel.png", None, "bilinear")
    np.testing.assert_array_equal(got[..., 0], 255 * (GRADIENT > 60))


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    path = save(tmp_path / "deep.png", GRADIENT.astype(np.uint16) * 257)
    np.testing.assert_array_equal(images.read_image(path, None, "bilinear")[..., 0], GRADIENT)


def test_the_cameras_orientation_is_obeyed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    Image.fromarray(GRADIENT).save(tmp_path / "turned.png", exif=exif)
    got = images.read_image(tmp_path / "turned.png", None, "bilinear")
    np.testing.assert_array_equal(got[..., 0], np.rot90(GRADIENT, -1))
    assert images.photo_size(tmp_path / "turned.png") == (12, 16)


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


@pytest.mark.parametrize(("rule", "want"), [("full", 1), ("half", 2), ("any", 3)])
def test_mask_rules(tmp_path, rule, want):
    # Resized 6 -> 3: shares 0, 1/2 + and 1 of white.
    mask = np.zeros((6, 6), np.uint8)
    mask[:, 1], mask[:, 2:4], mask[:, 4:] = 100, 200, 255
    path = save(tmp_path / "mask.png", mask)
    got = images.read_mask(path, 3, rule, (6, 6))
    assert got.dtype == bool and got[0].sum() == want


def test_a_mask_of_another_size_is_refused(tmp_path):
    path = save(tmp_path / "mask.png", GRADIENT)
    with pytest.raises(ImageError, match=r"mask.png is 16 × 12, its photo 8 × 8"):
        images.read_mask(path, 4, "half", (8, 8))


def truncated() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()[:700]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "empty file"),
        ("text.png", b"not a picture\n", "no image that can be decoded"),
        ("cut.jpg", truncated(), "damaged"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as error:
        images.read_image(path, 8, "bilinear")
    assert str(path) in str(error.value)


def test_missing_files_and_folders_named_like_images(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name in ("absent.png", "folder.png"):
        with pytest.raises(ImageError, match=f"cannot read .*{name}"):
            images.read_image(tmp_path / name, 8, "bilinear")


def test_bad_images_fail_or_are_listed(tmp_path):
    good = save(tmp_path / "good.png", GRADIENT)
    (tmp_path / "bad.png").write_bytes(b"")
    files = [str(tmp_path / "bad.png"), good]
    with pytest.raises(ImageError, match="bad.png"):
        images.read_images(files, 8, "antialias", "fail")
    pixels, kept, skipped = images.read_images(files, 8, "antialias", "skip")
    assert pixels.shape == (1, 8, 8, 3) and kept == [1]
    assert skipped[0][0] == files[0] and "empty" in skipped[0][1]
    with pytest.raises(ImageError, match="none of 1 images"):
        images.read_images(files[:1], 8, "antialias", "skip")


def test_find_images_goes_down_and_around_loops(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    for name in ("a/ü" + "x" * 200 + ".png", "b.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = [p.removeprefix(f"{tmp_path}/")[:3] for p in images.find_images(tmp_path)]
    assert found == ["a/ü", "b.J"]
