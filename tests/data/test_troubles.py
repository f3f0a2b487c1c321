"""Troubles that people reported of other tools, tried here: docs/troubles.md names where."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from diffad_jax.data import advice, images, layouts, masks
from diffad_jax.data.listing import DataError

RULES = images.Rules("bilinear")
GRADIENT = np.add.outer(8 * np.arange(12), 5 * np.arange(16)).astype(np.uint8)
RGB = np.stack([GRADIENT, GRADIENT // 2, 255 - GRADIENT], axis=-1)


@pytest.fixture
def place(tmp_path):
    """A category c with one good photo."""
    save(tmp_path / "c/train/good/0.png")
    return tmp_path / "c"


def save(path, pixels=RGB, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def survey(place, layout="mvtec"):
    return layouts.survey(place.parent, place.name, layout)


def pixels(path):
    return images.read_image(path, None, RULES)


def test_suffixes_in_capitals(place):
    save(place / "test/good/1.JPG")
    save(place / "test/good/2.Tif")
    assert len(survey(place).records) == 3


def test_jpeg_photos_with_png_masks(place):
    save(place / "test/bad/1.jpg")
    save(place / "ground_truth/bad/1.png", GRADIENT)
    assert survey(place).records[0].mask.endswith("1.png")


def test_a_name_that_begins_as_another(place):
    for name in ("1", "10", "11"):
        save(place / f"test/bad/{name}.png")
        save(place / f"ground_truth/bad/{name}_mask.png", GRADIENT)
    found = {r.file[-6:]: r.mask[-12:] for r in survey(place).records if r.mask}
    assert found["/1.png"] == "d/1_mask.png" and found["10.png"].endswith("10_mask.png")


def test_defects_without_any_mask(place):
    save(place / "test/bad/1.png")
    found = survey(place)
    assert found.faults == [] and found.records[0].is_anomalous and found.records[0].mask is None


def test_good_photos_alone(place):
    assert [r.split for r in survey(place).records] == ["train"]


def test_transparent_photos_keep_their_colour(place):
    image = Image.fromarray(RGB)
    image.putalpha(0)
    image.save(place / "train/good/alpha.png")
    np.testing.assert_array_equal(pixels(place / "train/good/alpha.png"), RGB)


def test_grey_photos_have_three_equal_channels(place):
    grey = pixels(save(place / "train/good/grey.png", GRADIENT))
    assert grey.shape == (12, 16, 3) and (grey == GRADIENT[..., None]).all()


def test_a_mask_that_was_drawn_on_the_photo_as_it_lies_in_the_file(place):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = save(place / "test/bad/1.jpg", exif=exif)
    mask = save(place / "ground_truth/bad/1_mask.png", GRADIENT)
    with pytest.raises(images.ImageError, match="is 16 × 12, its photo 12 × 16"):
        found, _ = masks.survey([str(mask)], RULES)
        found.read(mask, None, "half", images.photo_size(photo, RULES))


def test_a_jpeg_without_its_end(place):
    photo = save(place / "train/good/cut.jpg", np.tile(RGB, (9, 9, 1)))
    photo.write_bytes(photo.read_bytes()[:-40])
    with pytest.raises(images.ImageError, match="cut.jpg is damaged"):
        pixels(photo)


@pytest.mark.parametrize("suffix", [".b16", ".pgm", ".raw", ".dcm"])
def test_formats_of_cameras_are_named(place, suffix):
    (place / f"train/good/1{suffix}").write_bytes(b"PCO-")
    assert f"(1 {suffix})" in survey(place).left_out[0]


def test_tables_of_windows(place):
    table = place.parent / "split_csv/1cls.csv"
    table.parent.mkdir()
    table.write_text("object,split,label,image,mask\r\nc,train,normal,c\\train\\good\\0.png,\r\n")
    assert len(survey(place, "visa").records) == 1


def test_the_root_may_have_any_name(tmp_path):
    save(tmp_path / "MVTec (copy)/my parts 2/train/good/0.png")
    assert len(layouts.read_category(tmp_path / "MVTec (copy)", "my parts 2", "mvtec")) == 1


def test_a_phones_photo_under_the_wrong_suffix(place):
    heic = place / "train/good/1.jpg"
    heic.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.raises(images.ImageError, match=r"1\.jpg is "):
        pixels(heic)
    jpeg = save(place / "train/good/jpeg.png", format="JPEG")
    assert pixels(jpeg).shape == RGB.shape


def test_a_cameras_jpeg_that_holds_a_second_picture(place):
    path = place / "train/good/1.jpg"
    other = Image.fromarray(255 - RGB)
    Image.fromarray(RGB).save(path, "MPO", save_all=True, append_images=[other], quality=95)
    assert np.abs(pixels(path).astype(int) - RGB).mean() < 8


def test_what_macos_leaves_in_folders_and_archives(place):
    (place / "train/good/._0.png").write_bytes(b"\0\5\x16\7")
    (place / "train/good/.DS_Store").write_bytes(b"x")
    (place.parent / "__MACOSX/c/train").mkdir(parents=True)
    found = survey(place)
    assert len(found.records) == 1 and found.left_out == []


def test_numbers_without_a_range_are_refused(place):
    path = place / "train/good/depth.tif"
    Image.fromarray(GRADIENT.astype(np.float32) / 255).save(path)
    with pytest.raises(images.ImageError, match="floating-point"):
        pixels(path)


def test_masks_under_the_names_of_a_label_tool(place):
    save(place / "test/bad/1.png")
    save(place / "ground_truth/bad/task-3-annotation-3-by-1-tag-bad-0.png", GRADIENT)
    found = survey(place)
    assert "has no mask" in found.faults[0]
    assert "such as task-3-annotation-3-by-1-tag-bad-0.png: a mask is named as" in found.left_out[0]


def test_several_masks_of_one_photo(place):
    save(place / "test/bad/1.png")
    for name in ("1_mask", "1_mask_1", "1_mask_2"):
        save(place / f"ground_truth/bad/{name}.png", GRADIENT)
    found = survey(place)
    assert found.faults == [] and "2 images are left out" in found.left_out[0]


def test_colours_of_16_bits(place):
    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    deep = (RGB.astype(">u2") * 257).tobytes()
    rows = b"".join(b"\0" + deep[i : i + 96] for i in range(0, len(deep), 96))
    header = struct.pack(">IIBBBBB", 16, 12, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path = place / "train/good/deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    np.testing.assert_array_equal(pixels(path), RGB)


def test_bitmaps_with_an_unused_fourth_channel(place):
    fourth = np.concatenate([RGB[::-1, :, ::-1], np.zeros((12, 16, 1), np.uint8)], axis=-1)
    header = struct.pack("<IiiHHIIiiII", 40, 16, 12, 1, 32, 0, fourth.nbytes, 0, 0, 0, 0)
    path = place / "train/good/camera.bmp"
    path.write_bytes(b"BM" + struct.pack("<IHHI", 54 + fourth.nbytes, 0, 0, 54) + header)
    with path.open("ab") as file:
        file.write(fourth.tobytes())
    np.testing.assert_array_equal(pixels(path), RGB)


def test_a_data_set_that_was_unpacked_into_a_folder_of_its_own_name(tmp_path):
    save(tmp_path / "nut/nut/train/good/0.png")
    with pytest.raises(DataError, match="empty of normal photos.*left out in .*nut/nut/train/good"):
        layouts.read_category(tmp_path, "nut", "mvtec")


def test_masks_that_lie_among_the_photos(place):
    photo = save(place / "test/bad/1.png")
    for name in ("1_mask.png", "1_MASK.tif"):
        mask = save(photo.with_name(name), GRADIENT)
        (fault,) = survey(place).faults
        assert f"{mask} is named as a mask, and lies among the photos: move it into" in fault
        mask.unlink()
    save(place / "test/bad/face_mask.png")  # of no photo
    assert not survey(place).faults


def test_two_photos_of_one_name_and_one_mask(place):
    for suffix in ("png", "jpg"):
        save(place / f"test/bad/1.{suffix}")
    assert not survey(place).faults
    mask = save(place / "ground_truth/bad/1_mask.png", GRADIENT)
    (fault,) = survey(place).faults
    assert "1.jpg and " in fault and f"1.png have one name, and so one mask, {mask}" in fault


@pytest.mark.parametrize(("name", "pages"), [("a.tif", 2), ("a.png", 2), ("b.tif", 1)])
def test_several_pages_or_frames(place, name, pages):
    more = [Image.fromarray(255 - RGB)] * (pages - 1)
    path = save(place / name, save_all=True, append_images=more)
    np.testing.assert_array_equal(pixels(path), RGB)
    facts = images.photo_facts(path, RULES)
    assert facts.pages == pages
    said = advice.pages([(str(path), facts.pages)])
    assert [f"such as {path} (2): the first is read" in s for s in said] == [True] * (pages - 1)


def test_a_camera_jpeg_in_steps_in_cmyk_with_a_profile_and_a_place(place):
    smooth = np.asarray(Image.fromarray(RGB).resize((64, 48), Image.Resampling.BICUBIC))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[1] = "N"
    path = save(place / "a.jpg", smooth, progressive=True, icc_profile=b"rubbish", exif=exif,
                quality=95, subsampling=0)  # fmt: skip
    np.testing.assert_allclose(pixels(path), np.rot90(smooth, -1), atol=12)
    Image.fromarray(smooth).convert("CMYK").save(path, quality=95)
    np.testing.assert_allclose(pixels(path), smooth, atol=12)
