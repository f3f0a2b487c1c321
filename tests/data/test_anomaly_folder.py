"""The TFDS builder: splits, features, photos as they are, and prepared anew when files change."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from diffad_jax.data import images
from diffad_jax.data.anomaly_folder import AnomalyFolder, AnomalyFolderConfig
from diffad_jax.data.images import ImageError

GRADIENT = np.add.outer(8 * np.arange(12), 5 * np.arange(16)).astype(np.uint8)
RGB = np.stack([GRADIENT, GRADIENT // 2, 255 - GRADIENT], axis=-1)


def save_kinds(folder) -> None:
    """A photo of each kind that users have."""
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb, grey = Image.fromarray(RGB), Image.fromarray(GRADIENT)
    with_alpha, grey_alpha = rgb.copy(), grey.copy()
    with_alpha.putalpha(grey)
    grey_alpha.putalpha(9)
    grey.save(folder / "grey.png")
    grey.save(folder / "grey.bmp")
    grey.save(folder / "grey.jpg")
    grey_alpha.save(folder / "grey_alpha.png")
    rgb.save(folder / "rgb.png")
    rgb.save(folder / "rgb.tif")
    rgb.save(folder / "rgb.jpg")
    rgb.save(folder / "turned.jpg", exif=exif)
    rgb.convert("P").save(folder / "palette.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    with_alpha.save(folder / "alpha.png")
    Image.fromarray(GRADIENT.astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(GRADIENT > 60).save(folder / "bilevel.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    save_kinds(root / "nüt" / "train" / "good")
    for kind in ("good", "bent"):
        (root / "nüt" / "test" / kind).mkdir(parents=True)
        Image.fromarray(RGB).save(root / "nüt" / "test" / kind / "0.png")
    (root / "nüt" / "ground_truth" / "bent").mkdir(parents=True)
    mask = np.where(GRADIENT > 60, 255, 0).astype(np.uint8)
    Image.fromarray(mask).save(root / "nüt" / "ground_truth" / "bent" / "0_mask.png")
    return root


@pytest.fixture(scope="module")
def builder(root, tmp_path_factory):
    config = AnomalyFolderConfig(root=str(root), category="nüt", validation_share=0.25)
    return AnomalyFolder(config=config, data_dir=tmp_path_factory.mktemp("prepared"))


def test_prepared_on_first_use_with_the_pixels_of_read_image(builder, root):
    seen = {}
    for split in ("train", "validation"):
        for example in tfds.as_numpy(builder.as_dataset(split=split)):
            file = example["file"].decode()
            seen[file] = split
            want = images.read_image(root / file, None, images.Rules("bilinear"))
            # Two decoders of JPEG differ by rounding; everything else is equal.
            tolerance = 3 if file.endswith(".jpg") else 0
            np.testing.assert_allclose(
                example["image"].astype(int), want, atol=tolerance, err_msg=file
            )
            assert example["label"] == 0 and example["has_mask"] and not example["mask"].any()
            assert example["mask"].shape == (*want.shape[:2], 1)
    assert len(seen) == 13 and list(seen.values()).count("validation") == 4
    assert builder.info.splits["train"].num_examples == 9


def test_test_photos_with_their_masks(builder):
    examples = list(tfds.as_numpy(builder.as_dataset(split="test")))
    by_type = {e["defect_type"].decode(): e for e in examples}
    assert {k: int(e["label"]) for k, e in by_type.items()} == {"good": 0, "bent": 1}
    bent = by_type["bent"]
    assert bent["file"].decode() == "nüt/test/bent/0.png" and bent["has_mask"]
    np.testing.assert_array_equal(bent["mask"][..., 0], np.where(GRADIENT > 60, 255, 0))


def test_by_name(builder, root, tmp_path):
    config = AnomalyFolderConfig(root=str(root), category="nüt", validation_share=0.25)
    assert config.name == builder.builder_config.name
    by_name = tfds.builder("anomaly_folder", config=config, data_dir=tmp_path)
    assert isinstance(by_name, AnomalyFolder) and by_name.name == "anomaly_folder"


def make_few(folder):
    for name in ("train/good/0.png", "train/good/1.png", "test/bent/0.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).save(folder / name)


def test_prepared_anew_when_files_changed(tmp_path):
    make_few(tmp_path / "c")

    def name(**settings):
        return AnomalyFolderConfig(root=str(tmp_path), category="c", **settings).name

    first = name()
    assert name() == first and name(seed=1) != first and name(validation_share=0.5) != first
    photo = tmp_path / "c" / "train" / "good" / "0.png"
    os.utime(photo, (1, 1))
    second = name()
    Image.fromarray(GRADIENT).save(tmp_path / "c" / "train" / "good" / "2.png")
    assert len({first, second, name()}) == 3


def test_without_masks_and_with_a_damaged_photo(tmp_path):
    make_few(tmp_path / "c")
    config = AnomalyFolderConfig(root=str(tmp_path), category="c", validation_share=0.0)
    builder = AnomalyFolder(config=config, data_dir=tmp_path / "prepared")
    (example,) = tfds.as_numpy(builder.as_dataset(split="test"))
    assert example["label"] == 1 and not example["has_mask"] and not example["mask"].any()
    assert sorted(builder.info.splits) == ["test", "train"]
    (tmp_path / "c" / "train" / "good" / "1.png").write_bytes(b"")
    config = AnomalyFolderConfig(root=str(tmp_path), category="c")
    with pytest.raises(ImageError, match="1.png is an empty file"):
        AnomalyFolder(config=config, data_dir=tmp_path / "prepared").as_dataset(split="train")


def test_names_that_are_no_utf_8(tmp_path):
    photo = Image.fromarray(RGB)
    for name in (b"train/good/\xff.png", b"test/\xfe/\xff.png"):
        path = tmp_path / "c" / os.fsdecode(name)
        path.parent.mkdir(parents=True)
        photo.save(path)
    config = AnomalyFolderConfig(root=str(tmp_path), category="c", validation_share=0.0)
    builder = AnomalyFolder(config=config, data_dir=tmp_path / "prepared")
    (example,) = tfds.as_numpy(builder.as_dataset(split="test"))
    assert (example["file"], example["defect_type"]) == (b"c/test/\xfe/\xff.png", b"\xfe")


def test_the_use_that_the_docs_show(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "photos" / "bottles").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(RGB).save(tmp_path / "photos" / "bottles" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    exec(shown, {})
    printed = capsys.readouterr().out.splitlines()  # TFDS says what it prepares
    lines = [line for line in printed if line.startswith("bottles/")]
    assert len(lines) == 2  # one is held out
    assert all(re.fullmatch(r"bottles/[012]\.png \(12, 16, 3\) 0", line) for line in lines)
