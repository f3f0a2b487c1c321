"""The report on a data set: what it counts, what it finds, what it does with damaged files."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_flags_for
from PIL import Image

from diffad_jax.data import inspect, inspect_text, pipeline
from diffad_jax.data.layouts import DataError

RNG = np.random.default_rng(0)
NOTHING = {"train": [], "test": [], "across": []}


@pytest.fixture
def place(tmp_path, tiny_config):
    """The folder of a category of 6 normal photos that tests change; ``look`` reports on it."""
    tiny_config.data.root = str(tmp_path)
    for i in range(6):
        save(tmp_path / f"tiles/train/good/{i}.png")
    return tmp_path / "tiles"


@pytest.fixture
def look(place, tiny_config):
    tiny_config.data.validation_share = 0.1
    return lambda: inspect.inspect_category(tiny_config, "tiles", place.parent / "report")


def save(path: Path, pixels=None, size=(20, 20)) -> str:
    """A photo; without ``pixels``, noise of ``size`` = (width, height)."""
    if pixels is None:
        pixels = RNG.integers(0, 256, (size[1], size[0], 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return str(path)


def save_defect(place: Path, name: str, mask: np.ndarray) -> str:
    save(place / f"test/{name}.png", size=mask.shape[::-1])
    return save(place / f"ground_truth/{name}_mask.png", mask)


def cut(file: str) -> str:
    """The end is lost; the header stays whole."""
    content = Path(file).read_bytes()
    Path(file).write_bytes(content[: len(content) // 2])
    return file


def patch(rows: int, columns: int, side: int = 20) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[:rows, :columns] = 255
    return mask


def test_counts_sizes_modes_and_formats(place, look):
    save(place / "train/good/grey.png", np.zeros((20, 24), np.uint8))
    save(place / "train/good/photo.jpg", size=(30, 20))
    save(place / "test/good/0.png")
    for i in range(2):
        save_defect(place, f"scratch/{i}", patch(5, 5))
    summary = look()
    assert summary["train"] == {
        "photos": 8,
        "by_type": {"good": 8},
        "sizes": {
            "distinct": 3,
            "width": {"min": 20, "median": 20.0, "max": 30},
            "height": {"min": 20, "median": 20.0, "max": 20},
            "counts": {"20 × 20": 6, "24 × 20": 1, "30 × 20": 1},
        },
        "modes": {"RGB": 7, "L": 1},
        "formats": {"PNG": 7, "JPEG": 1},
        "held_out": 2,
    }
    assert summary["test"]["by_type"] == {"scratch": 2, "good": 1}
    assert summary["unreadable"] == [] and summary["duplicates"] == NOTHING
    assert json.loads((place.parent / "report/summary.json").read_text()) == summary


def test_many_sizes_are_not_counted_one_by_one(place, look):
    for i in range(7):
        save(place / f"train/good/wide{i}.png", size=(30 + i, 10 + i))
    sizes = look()["train"]["sizes"]
    assert sizes == {
        "distinct": 8,
        "width": {"min": 20, "median": 30.0, "max": 36},
        "height": {"min": 10, "median": 16.0, "max": 20},
    }


def test_without_test_photos(look):
    summary = look()
    assert summary["test"]["photos"] == 0 and summary["test"]["sizes"] is None
    assert summary["masks"]["share"] == {}
    text = inspect_text.as_text(summary | {"synthesis": None})
    assert "test photos           none" in text
    assert "mask values           none\n" in f"{text}\n" and "anomalous area" not in text


def test_duplicates_are_found_across_formats_and_splits(place, look):
    pixels = RNG.integers(0, 256, (10, 20, 3), np.uint8)
    nearly = pixels.copy()
    nearly[0, 0, 0] ^= 1
    save(place / "train/good/nearly.png", nearly)
    save(place / "train/good/same_bytes.png", pixels.reshape(20, 10, 3))
    in_train = [save(place / f"train/good/twin.{s}", pixels) for s in ("bmp", "png")]
    assert look()["duplicates"] == NOTHING | {"train": [in_train]}
    in_test = save(place / "test/good/0.tif", pixels)
    twins = [save(place / f"test/good/{i}.png", pixels[:9]) for i in (1, 2)]
    summary = look()
    assert summary["duplicates"] == {"train": [], "test": [twins], "across": [[in_test, *in_train]]}
    assert " = ".join([in_test, *in_train]) in inspect_text.as_text(summary)


def test_areas_of_masks(place, look):
    save_defect(place, "dent/0", patch(4, 5))
    for i, rows in enumerate((2, 4, 20)):
        save_defect(place, f"scratch/{i}", patch(rows, 10))
    masks = look()["masks"]
    assert masks["empty"] == masks["lost_by_resizing"] == masks["missing"] == []
    everything, dent, scratch = (masks["share"][k] for k in ("all defects", "dent", "scratch"))
    assert dent == {"count": 1} | dict.fromkeys(inspect.QUANTILES, 0.05)
    assert [scratch[k] for k in ("count", "min", "median", "max")] == [3, 0.05, 0.1, 0.5]
    assert (everything["count"], everything["median"]) == (4, pytest.approx(0.075))


def test_black_masks_and_those_that_resizing_empties_are_named(place, look):
    save_defect(place, "scratch/fine", patch(5, 5))
    black = save_defect(place, "scratch/black", patch(0, 0))
    # Of 64 pixels, those next to the border are beyond what bilinear resizing to 16 looks at.
    tiny = save_defect(place, "scratch/tiny", patch(1, 1, side=64))
    summary = look()
    assert summary["masks"]["empty"] == [black]
    assert summary["masks"]["lost_by_resizing"] == [tiny]
    assert summary["masks"]["share"]["scratch"]["min"] == 0.0
    text = inspect_text.as_text(summary)
    assert black in text and tiny in text


def test_defects_without_a_mask_are_named(place, look):
    file = save(place / "test/scratch/0.png")
    masks = look()["masks"]
    assert masks["missing"] == [file] and masks["share"] == {}


@pytest.mark.parametrize("cache_mib", [0, 16])
@pytest.mark.parametrize("on_bad_image", ["fail", "skip"])
def test_all_bad_files_are_listed(cache_mib, on_bad_image, place, look, tiny_config, caplog):
    tiny_config.data.on_bad_image = on_bad_image
    tiny_config.data.cache_mib = cache_mib
    files = {
        "train": cut(str(place / "train/good/3.png")),
        "photo": cut(save(place / "test/good/0.png")),
        "mask": cut(save_defect(place, "scratch/0", patch(5, 5))),
        "another size": save_defect(place, "scratch/1", patch(5, 5)),
    }
    save(place / "test/scratch/1.png", size=(30, 20))
    with caplog.at_level(logging.WARNING, logger="diffad_jax.data.inspect"):
        summary = look()
    assert summary["train"]["by_type"] == {"good": 6} and summary["test"]["photos"] == 3
    assert summary["train"]["modes"] == {"RGB": 5} and summary["test"]["modes"] == {"RGB": 2}
    assert summary["synthesis"]["examples"] == 256
    found = {u["reason"].split()[0]: u["split"] for u in summary["unreadable"]}
    assert found == {f: "train" if kind == "train" else "test" for kind, f in files.items()}
    warned = [r.getMessage() for r in caplog.records if r.name == "diffad_jax.data.inspect"]
    assert len(warned) == 3 and all("evaluation will stop" in w for w in warned)
    text = inspect_text.as_text(summary)
    assert "1; training stops there, unless --config.data.on_bad_image=skip leaves" in text
    for kind, file in files.items():
        assert f"\n    {file} " in text
        assert any(file in w for w in warned) == (kind != "train")


def test_the_report_ends_where_no_photo_can_be_read(place, look):
    files = [cut(str(place / f"train/good/{i}.png")) for i in range(6)]
    files += [cut(save(place / f"test/good/{i}.png")) for i in range(12)]
    summary = look()
    assert {u["file"] for u in summary["unreadable"]} == set(files)
    assert summary["synthesis"]["examples"] == 0
    assert all(f in inspect_text.as_text(summary) for f in files)


def test_missing_masks_and_what_is_left_out_are_listed(place, look):
    save_defect(place, "scratch/0", patch(5, 5))
    files = [save(place / f"test/scratch/{i}.png") for i in range(1, 4)]
    (place / "train/good/a.webp").write_bytes(b"x")
    summary = look()
    assert len(summary["faults"]) == 3 and summary["synthesis"]["examples"] == 256
    text = inspect_text.as_text(summary)
    assert all(f"{f} has no mask" in text for f in files) and "1 .webp" in text
    assert re.search(r"left out +as follows\n", text)  # a sentence counts its files


def test_recommendations(place, look):
    for i in range(20):
        save(place / f"train/good/more{i}.png")
    assert len(look()["advice"]) == 1  # few photos
    dark = save(place / "train/good/dark.png", RNG.integers(0, 60, (20, 20, 3), np.uint8))
    twin = RNG.integers(0, 256, (20, 20, 3), np.uint8)
    for name in ("train/good/twin0", "train/good/twin1", "test/good/twin"):
        save(place / f"{name}.png", twin)
    save(place / "train/good/wide.png", size=(30, 20))
    save(place / "train/good/grey.png", RNG.integers(0, 256, (20, 20), np.uint8))
    summary = look()
    few, shapes, grey, light = (s for s in summary["advice"] if "at once" not in s)
    assert few.startswith("31 normal photos, 10 held out: 1 in 11 new good photos")
    assert "1.00 to 1.50" in shapes and "1 of 32 photos are grey" in grey
    assert light.startswith("1 normal photo under other light") and dark in light
    assert "1 photo for training and testing at once" in "\n".join(summary["advice"])
    assert all(s in inspect_text.as_text(summary) for s in summary["advice"])


def test_the_sheet_shows_what_training_sees(place, look, tiny_config):
    synthesis = look()["synthesis"]
    examples = list(pipeline.examples(tiny_config, "tiles", "train").take(256).as_numpy_iterator())
    anomalous = [e for e in examples if e["anomaly_mask"].any()]
    shares = [e["anomaly_mask"].mean() for e in anomalous]
    assert (synthesis["examples"], synthesis["normal"]) == (256, 256 - len(anomalous))
    assert 0 < synthesis["normal"] < 256
    assert synthesis["share"]["median"] == pytest.approx(np.median(shares))
    assert synthesis["share"]["max"] == pytest.approx(max(shares))
    with Image.open(place.parent / "report/contact_sheet.png") as image:
        sheet = np.asarray(image)
    # Tiles are 16 pixels enlarged ten times, below a header and each row's caption.
    for row in (0, 15):
        shown = [
            sheet[24 + 34 + row * 194 :, 6 + column * 166 :][:160:10, :160:10]
            for column in range(4)
        ]
        e = anomalous[row]
        mask = np.repeat(255 * e["anomaly_mask"], 3, axis=-1)
        expected = (e["image"], e["texture"], mask, e["augmented_image"])
        np.testing.assert_array_equal(np.stack(shown), np.stack(expected))
    assert len(sheet) == 24 + 16 * 194 + 6


def test_examples_that_are_all_normal(place, look, tiny_config):
    tiny_config.synthesis.normal_probability = 1.0
    summary = look()
    assert summary["synthesis"]["normal"] == 256 and summary["synthesis"]["share"] is None
    assert "256 of them normal" in inspect_text.as_text(summary)
    assert (place.parent / "report/contact_sheet.png").exists()


def test_long_lists_end_on_the_terminal(place, look):
    files = [save(place / f"test/scratch/{i:02d}.png") for i in range(12)]
    text = inspect_text.as_text(look())
    assert files[9] in text and files[10] not in text
    assert "and 2 more: see summary.json" in text


def test_a_wrong_texture_folder_fails_before_the_photos_are_read(look, tiny_config, monkeypatch):
    tiny_config.data.textures = "nowhere"
    monkeypatch.setattr(inspect, "_look", None)
    with pytest.raises(DataError, match="'nowhere' is no folder"):
        look()


def test_the_program(place):
    bad = cut(save(place / "test/good/0.png"))
    output = place.parent / "out"
    command = [sys.executable, "-m", "diffad_jax.main", *tiny_flags_for(str(place.parent))]
    command += ["--mode=inspect", f"--output={output}"]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, env=os.environ)
    assert result.returncode == 0, result.stderr
    assert "training photos       good (6); 4 of them held out" in result.stdout
    assert (
        "unreadable, test      1; evaluation stops there\n" in result.stdout
        and bad in result.stdout
    )
    assert f"evaluation will stop at this test file: {bad}" in result.stderr
    names = {f.name for f in (output / "tiles").iterdir()}
    assert names == {"contact_sheet.png", "summary.json"}
    again = subprocess.run(command, cwd=root, capture_output=True, text=True, env=os.environ)
    assert again.returncode == 1
    assert "summary.json is there already: choose another --output" in again.stderr
