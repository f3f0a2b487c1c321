"""The toy category: counts, exact masks, the same bytes everywhere."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffad_jax.data import layouts, toy

SIZE = 32
# SHA-256 at seed 0 and 32 × 32, in the order of the files' names: of their names and bytes, and
# of the decoded pixels alone. Where only the first differs, Pillow writes PNG in another way.
FILES_DIGEST = "38d25a9dec3815a359a964b0b11810755e17f16cc8ca64ab8906b4538e275c8f"
PIXELS_DIGEST = "97e61611471abb93b7517913b2f497070b46f294d1f4ab180e6a111215b5d43f"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("toy")
    toy.write_category(path, seed=0, image_size=SIZE)
    return path


def test_counts(root):
    records = layouts.read_category(root, "toy", "mvtec")
    counts = {}
    for r in records:
        counts[r.split, r.defect_type] = counts.get((r.split, r.defect_type), 0) + 1
    assert counts.pop(("train", "good")) == 200
    assert counts.pop(("test", "good")) == 20
    assert counts == {("test", d): 8 for d in toy.DEFECT_TYPES} and len(counts) >= 4


def test_the_same_bytes_on_every_machine(root):
    files, pixels = hashlib.sha256(), hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        files.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
        if path.suffix == ".png":
            pixels.update(np.asarray(Image.open(path)).tobytes())
    assert pixels.hexdigest() == PIXELS_DIGEST
    assert files.hexdigest() == FILES_DIGEST


def test_written_masks_belong_to_their_photos(root):
    for defect_number, defect in enumerate(toy.DEFECT_TYPES):
        for i in range(toy.NUM_TEST_DEFECT):
            index = toy.NUM_TRAIN + toy.NUM_TEST_GOOD + toy.NUM_TEST_DEFECT * defect_number + i
            twin, _ = toy.render_photo(0, index, None, SIZE)
            photo = np.asarray(Image.open(root / f"toy/test/{defect}/{i:03d}.png"))
            mask = np.asarray(Image.open(root / f"toy/ground_truth/{defect}/{i:03d}_mask.png"))
            assert set(np.unique(mask)) == {0, 255}
            np.testing.assert_array_equal((photo != twin).any(axis=-1), mask == 255)


@pytest.mark.parametrize("defect", toy.DEFECT_TYPES)
@pytest.mark.parametrize("index", [0, 1])
def test_masks_are_exact(defect, index):
    photo, mask = toy.render_photo(7, index, defect, SIZE)
    twin, empty = toy.render_photo(7, index, None, SIZE)
    assert not empty.any() and set(np.unique(mask)) == {0, 255}
    difference = np.abs(photo.astype(int) - twin).max(axis=-1)
    assert not difference[mask == 0].any()
    assert difference[mask > 0].min() > 0
    assert 4 <= (mask > 0).sum() < 0.15 * mask.size


def test_normals_vary_and_seeds_differ():
    photos = [toy.render_photo(0, i, None, SIZE)[0].astype(float) for i in range(0, 20, 2)]
    assert np.std(photos, axis=0).mean() > 5.0
    assert not np.array_equal(photos[0], toy.render_photo(1, 0, None, SIZE)[0])


def test_written_once_and_never_over_something_else(root):
    before = (root / "toy/toy.json").stat().st_mtime_ns
    toy.write_category(root, seed=0, image_size=SIZE)
    assert (root / "toy/toy.json").stat().st_mtime_ns == before
    with pytest.raises(layouts.DataError, match="delete it, or set config.data.root") as error:
        toy.write_category(root, seed=1, image_size=SIZE)
    assert str(root / "toy") in str(error.value)


def test_an_interrupted_writing_leaves_no_category(tmp_path, monkeypatch):
    def fail(path, pixels):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(toy, "_save", fail)
        toy.write_category(tmp_path, image_size=8)
    assert not list(tmp_path.iterdir())
    toy.write_category(tmp_path, image_size=8)
    assert len(layouts.read_category(tmp_path, "toy", "mvtec")) == 260


def test_two_processes_may_write_at_once(tmp_path, monkeypatch):
    save = toy._save

    def other_finishes_first(path, pixels):
        monkeypatch.setattr(toy, "_save", save)
        toy.write_category(tmp_path, image_size=8)
        save(path, pixels)

    monkeypatch.setattr(toy, "_save", other_finishes_first)
    toy.write_category(tmp_path, image_size=8)
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]
