"""The toy category: counts, exact masks, the same bytes everywhere."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from diffad_jax.data import layouts, toy

SIZE = 32
# SHA-256 of all files at seed 0 and 32 × 32, in the order of their names.
DIGEST = "17175703ce62303d19315fe29248130f0981d1e97d0c0126eccde81a5ff6c311"


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
    sha = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        sha.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    assert sha.hexdigest() == DIGEST


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
    with pytest.raises(layouts.DataError, match="delete it, or set config.data.root"):
        toy.write_category(root, seed=1, image_size=SIZE)


def test_an_interrupted_writing_leaves_no_category(tmp_path, monkeypatch):
    def fail(path, pixels):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(toy, "_save", fail)
        toy.write_category(tmp_path, image_size=8)
    assert not (tmp_path / "toy").exists()
    toy.write_category(tmp_path, image_size=8)
    assert len(layouts.read_category(tmp_path, "toy", "mvtec")) == 260
