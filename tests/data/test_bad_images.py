"""Files that are no photos, or too large ones: each is named, with its reason."""

import functools
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from photo_case import ANTIALIAS, BILINEAR, GRADIENT, RGB, save
from PIL import Image

from diffad_jax.data import images, masks, photo
from diffad_jax.data.images import ImageError
from diffad_jax.data.photo import Rules


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
        images.read_image(path, 8, BILINEAR)
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
            assert images.read_image(path, 8, BILINEAR).shape == (8, 8, 3)
        except ImageError as error:
            assert "damaged.png" in str(error)


def test_too_large_is_said_with_its_true_cause_before_anything_is_decoded(tmp_path):
    """Pillow speaks of a decompression bomb, from 89 megapixels on."""
    path = save(tmp_path / "huge.png", GRADIENT)
    said = "huge.png is 16 × 12 pixels, which take .* MiB, more than config.data.photo_mib"
    with pytest.raises(ImageError, match=said):
        images.read_image(path, 8, Rules("bilinear", photo_mib=3 * 16 * 12 / 2**20 - 1e-6))
    images.read_image(path, 8, Rules("bilinear", photo_mib=3 * 16 * 12 / 2**20))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_pillows_own_limit_does_not_count(tmp_path, monkeypatch, form):
    path = tmp_path / "large"
    Image.fromarray(RGB).save(path, form)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # from 100 on it would raise
    np.testing.assert_array_equal(images.read_image(path, None, BILINEAR), RGB)


def png_header(width, height):
    """A PNG of so many pixels in a few bytes: the pixels are missing."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"")]
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d))
             for n, d in chunks]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_side_is_bounded(tmp_path):
    path = tmp_path / "long.png"
    path.write_bytes(png_header(20_000_000, 1))
    with pytest.raises(ImageError, match=r"20000000 × 1 pixels, and a side .* at most 262144"):
        images.read_image(path, 8, BILINEAR)


def test_long_lines_are_resized_in_little_memory():
    """The rows of a photo of 2 × 262,144 pixels took 800 MB at 256 × 256."""
    tracemalloc.start()
    try:
        photo.bilinear(np.zeros((2, photo.MAX_SIDE, 3), np.uint8), (256, 256))
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_bilinear_takes_the_same_numbers_as_whole_rows_would():
    pixels = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    y, x = (np.clip((np.arange(7) + 0.5) * n / 7 - 0.5, 0, n - 1) for n in (13, 17))
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = (y - y0).astype(np.float32)[:, None, None], (x - x0).astype(np.float32)[:, None]
    rows = pixels[y0] * (1 - fy) + pixels[np.minimum(y0 + 1, 12)] * fy
    want = rows[:, x0] * (1 - fx) + rows[:, np.minimum(x0 + 1, 16)] * fx
    np.testing.assert_array_equal(photo.bilinear(pixels, (7, 7)), want)


def test_where_memory_ends_the_photo_is_unreadable(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", GRADIENT)

    def refuse(*args):
        raise MemoryError

    monkeypatch.setattr(photo, "_to_rgb", refuse)
    with pytest.raises(ImageError, match="a.png does not fit into memory"):
        images.read_image(path, 8, BILINEAR)


def test_no_more_is_decoded_at_once_than_fits(tmp_path, monkeypatch):
    """Two photos of three fit, so the third waits; one that fills the room goes alone."""
    together, most = [0], [0]
    lock = threading.Lock()

    def convert(image, rules):
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        time.sleep(0.05)
        with lock:
            together[0] -= 1

    path = save(tmp_path / "a.png", GRADIENT)
    monkeypatch.setattr(photo, "rgb_pixels", convert)
    data = Path(path).read_bytes()
    for read in (
        lambda rules: images.decode(path, rules, convert),
        lambda rules: images.read_bytes(data, rules),
    ):
        for photos, want in ((2.5, 2), (1.0, 1)):
            most[0], rules = 0, Rules("bilinear", photo_mib=photos * 3 * 16 * 12 / 2**20)
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(read, [rules] * 6))
            assert most[0] == want


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\nshowpage\n"


@pytest.mark.parametrize("reader", [images.read_image, masks.is_black])
def test_postscript_starts_no_program_whatever_its_name(tmp_path, monkeypatch, reader):
    """Pillow hands it to Ghostscript."""
    path = tmp_path / "x.png"
    path.write_bytes(POSTSCRIPT)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a program was started"))
    arguments = (8, BILINEAR) if reader is images.read_image else (BILINEAR,)
    with pytest.raises(ImageError, match="x.png is no image that can be decoded .PNG, JPEG"):
        reader(path, *arguments)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PPM", "ICO", "TGA", "PCX", "JPEG2000", "DDS"])
def test_formats_that_are_not_documented_are_not_tried(form):
    file = io.BytesIO()
    try:
        Image.fromarray(RGB).save(file, form)
    except (KeyError, OSError):
        pytest.skip("this Pillow does not write it")
    with pytest.raises(photo.BadImage, match="no image that can be decoded"):
        photo.decode(file.getvalue(), BILINEAR)


def test_only_the_readers_of_photos_call_pillows_open():
    """What else opens images must go through photo.decode."""
    package = Path(photo.__file__).parents[1]
    found = [p.name for p in package.rglob("*.py") if "Image.open(" in p.read_text()]
    assert found == []


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path):
    """Written by that package, so skipped without it."""
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "phone.heic"
    heif.from_pillow(Image.fromarray(np.repeat(RGB, 8, 0).repeat(8, 1))).save(path, quality=100)
    got = images.read_image(path, None, BILINEAR)
    assert got.shape == (96, 128, 3)
    assert np.abs(got[::8, ::8].astype(int) - RGB).mean() < 8


def test_heic_is_named_with_its_remedy_where_it_is_not(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "phone.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(ImageError, match="is a HEIC photo, .* pip install pillow-heif, or save"):
        images.read_image(path, 8, BILINEAR)


def test_missing_files_folders_named_like_images_and_loops(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("absent.png", "folder.png", "loop.png"):
        with pytest.raises(ImageError, match=f"cannot read .*{name}"):
            images.read_image(tmp_path / name, 8, BILINEAR)


def test_pipes_sockets_and_devices_are_named_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket.png"))
    for name in ("pipe.png", "endless.png", "socket.png"):
        with pytest.raises(ImageError, match=f"cannot read .*{name}: no regular file, but a pipe"):
            images.read_image(tmp_path / name, 8, BILINEAR)
    listening.close()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_metadata_that_would_take_minutes_is_refused(tmp_path, suffix):
    """Pillow copies all EXIF data with each segment of it."""
    data = Path(save(tmp_path / f"a{suffix}", GRADIENT)).read_bytes()
    segment = b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)
    if suffix == ".jpg":
        data = data[:2] + 260 * segment + data[2:]
    elif suffix == ".png":
        chunk = b"abCd" + bytes(2**24)
        crc = zlib.crc32(chunk)
        data = data[:33] + struct.pack(">I", 2**24) + chunk + struct.pack(">I", crc) + data[33:]
    else:
        tag = struct.pack("<H2HIIHIII", 1, 270, 2, 2**24 + 9, 26, 0, 0, 0, 0)
        data = b"II*\0" + struct.pack("<I", 8) + tag + b"x" * (2**24 + 9)
    (tmp_path / f"a{suffix}").write_bytes(data)
    with pytest.raises(ImageError, match=f"a{suffix} holds over 16 MiB of metadata before its pix"):
        images.read_image(tmp_path / f"a{suffix}", 8, BILINEAR)


def test_a_file_of_endless_size_is_named(tmp_path):
    path = save(tmp_path / "endless.png", GRADIENT)
    os.truncate(path, 2**40)  # sparse: it takes no room
    with pytest.raises(ImageError, match="cannot read .*endless.png: larger than 2048 MiB"):
        images.read_image(path, 8, BILINEAR)


def test_unreadable_files_are_named(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", GRADIENT)

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(images, "open_regular", refuse)
    with pytest.raises(ImageError, match="cannot read .*a.png: Permission denied"):
        images.read_image(path, 8, BILINEAR)


def test_long_and_foreign_names(tmp_path):
    path = save(tmp_path / ("größe_ネジ_" + "x" * 200 + ".png"), GRADIENT)
    assert images.read_image(path, 8, BILINEAR).shape == (8, 8, 3)


def test_a_reason_is_one_line(tmp_path):
    def fail(*_):
        raise ValueError("Invalid input:\nend of file\n")

    with pytest.raises(ImageError, match=r"is damaged \(Invalid input: end of file\): restore"):
        images.decode(save(tmp_path / "a.png", GRADIENT), BILINEAR, fail)


def test_bad_images_fail_or_are_listed(tmp_path):
    good = save(tmp_path / "good.png", GRADIENT)
    (tmp_path / "bad.png").write_bytes(b"")
    files = [str(tmp_path / "bad.png"), good]
    with pytest.raises(ImageError, match="bad.png"):
        images.read_images(files, 8, ANTIALIAS, "fail")
    with pytest.raises(images.ImageError, match="empty.*--mode=inspect lists all such files"):
        images.read_images(files, 8, ANTIALIAS)
    pixels, kept, skipped = images.read_images(files, 8, ANTIALIAS, "skip")
    np.testing.assert_array_equal(pixels[0], images.read_image(good, 8, ANTIALIAS))
    assert len(pixels) == 1 and kept == [1]
    assert skipped[0][0] == files[0] and "empty" in skipped[0][1]
    with pytest.raises(ImageError, match="none of 1 images could be read; the first: .*bad.png"):
        images.read_images(files[:1], 8, ANTIALIAS, "skip")
    with pytest.raises(ImageError, match="none of 0 images"):
        images.read_images([], 8, ANTIALIAS, "skip")


def test_mixed_sizes_keep_their_order(tmp_path):
    files = [save(tmp_path / f"{i}.png", np.full((5 + i, 9), i, np.uint8)) for i in range(20)]
    pixels, kept, _ = images.read_images(files, 4, BILINEAR)
    assert kept == list(range(20)) and (pixels[:, 0, 0, 0] == np.arange(20)).all()


def test_batches_pass_over_bad_images_even_whole_batches_of_them(tmp_path, caplog):
    files = [save(tmp_path / f"{i}.png", np.full((8, 8), i, np.uint8)) for i in range(7)]
    for i in (1, 2, 3, 6):
        Path(files[i]).write_bytes(b"")
    read = functools.partial(images.read_batches, batch_size=2, size=8, rules=BILINEAR)
    batches = list(read(files, on_bad_image="skip"))
    assert [batch[:, 0, 0, 0].tolist() for batch in batches] == [[0], [4, 5]]
    assert len(list(read(files, on_bad_image="skip"))) == 2  # a second pass names none again
    named = [record.message for record in caplog.records]
    assert [files[i] in name for i, name in zip((1, 2, 3, 6), named, strict=True)] == 4 * [True]
    with pytest.raises(ImageError, match=r"1\.png is an empty file"):
        list(read(files))
    with pytest.raises(ImageError, match="none of 2 images could be read; the first: .*1.png"):
        list(read(files[1:3], on_bad_image="skip"))
