"""Where photos and masks lie; what is wrong is said in one sentence that names the place."""

from pathlib import Path

import pytest

from diffad_jax.data import layouts
from diffad_jax.data.layouts import DataError


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def short(records, root):
    return [
        (Path(r.file).relative_to(root).as_posix(), r.split, r.defect_type, r.mask is not None)
        for r in records
    ]


def test_mvtec(tmp_path):
    make(
        tmp_path,
        "nut/train/good/001.png",
        "nut/train/good/000.png",
        "nut/train/good/.DS_Store.png",
        "nut/train/good/readme.txt",
        "nut/test/good/000.png",
        "nut/test/bent/000.png",
        "nut/ground_truth/bent/000_mask.png",
    )
    records = layouts.read_category(tmp_path, "nut", "mvtec")
    assert short(records, tmp_path) == [
        ("nut/train/good/000.png", "train", "good", False),
        ("nut/train/good/001.png", "train", "good", False),
        ("nut/test/bent/000.png", "test", "bent", True),
        ("nut/test/good/000.png", "test", "good", False),
    ]
    assert [r.is_anomalous for r in records] == [False, False, True, False]


@pytest.mark.parametrize("place", ["photos/a.png", "photos/good/a.png", "photos/train/good/a.jpg"])
def test_ones_own_folder_needs_good_photos_only(tmp_path, place):
    make(tmp_path, place)
    assert short(layouts.read_category(tmp_path, "photos", "folder"), tmp_path) == [
        (place, "train", "good", False)
    ]


def test_a_category_without_masks_has_records_without_masks(tmp_path):
    make(tmp_path, "c/train/good/0.png", "c/test/bad/0.png")
    assert [r.mask for r in layouts.read_category(tmp_path, "c", "mvtec")] == [None, None]


def test_one_missing_mask_is_named(tmp_path):
    make(tmp_path, "c/train/good/0.png", "c/test/bad/0.png", "c/test/bad/1.png")
    make(tmp_path, "c/ground_truth/bad/0_mask.png")
    with pytest.raises(DataError, match=r"test/bad/1.png has no mask .* add 1_mask.png"):
        layouts.read_category(tmp_path, "c", "mvtec")


def test_missing_root_category_layout_and_photos(tmp_path):
    with pytest.raises(DataError, match="no folder .*nowhere: set config.data.root"):
        layouts.read_category(tmp_path / "nowhere", "c", "mvtec")
    make(tmp_path, "bolt/train/good/0.png", "empty/train/good/notes.txt")
    with pytest.raises(DataError, match="no category 'blot' in .*; there is bolt, empty"):
        layouts.read_category(tmp_path, "blot", "mvtec")
    with pytest.raises(DataError, match="empty is empty of normal photos: put them into .*good"):
        layouts.read_category(tmp_path, "empty", "mvtec")
    with pytest.raises(DataError, match="config.data.layout = 'mvtek': choose one of mvtec"):
        layouts.read_category(tmp_path, "bolt", "mvtek")


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    make(tmp_path, "c/train/good/0.png")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(layouts.epath.Path(tmp_path)), "iterdir", refuse)
    with pytest.raises(DataError, match="cannot read the folder .*: Permission denied"):
        layouts.read_category(tmp_path, "c", "mvtec")


@pytest.mark.parametrize(
    ("count", "share", "held_out"),
    [(10, 0.3, 3), (10, 0.01, 1), (1, 0.5, 0), (10, 0.0, 0), (4, 1.0, 3)],
)
def test_validation_split(count, share, held_out):
    records = [layouts.Record(f"{i}.png", "train", "good", None) for i in range(count)]
    train, validation = layouts.split_validation(records, share, seed=0)
    assert len(validation) == held_out and len(train) == count - held_out
    assert sorted(train + validation, key=records.index) == records
    assert layouts.split_validation(records, share, seed=0) == (train, validation)
