"""Defects drawn for choosing settings, and what taking a detector apart says of known ones."""

import subprocess
import sys
import types

import jax
import ml_collections
import numpy as np
import pytest

from benchmarks import ablations, defect_kinds, held_out
from diffad_jax.data import layouts
from diffad_jax.methods.diffad.reconstruct import Reconstruction

PHOTO = np.random.default_rng(0).integers(90, 160, (64, 64, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", defect_kinds.KINDS)
def test_a_defect_is_where_its_mask_says(kind):
    for seed in range(20):
        damaged, mask = defect_kinds.draw(kind, PHOTO, seed)
        assert damaged.shape == PHOTO.shape and damaged.dtype == np.uint8
        assert mask.shape == (64, 64) and mask.dtype == bool
        assert 0 < mask.mean() < 0.5
        change = np.abs(damaged.astype(int) - PHOTO).mean(-1)
        assert change[mask].mean() > 8 * change[~mask].mean()
        assert change[mask].mean() > 5


@pytest.mark.parametrize("kind", defect_kinds.KINDS)
def test_the_seed_decides(kind):
    first, again, other = (defect_kinds.draw(kind, PHOTO, s)[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_nobody_can_see_is_no_defect():
    photo = PHOTO.copy()
    photo[:, 24:] = 255
    found = [defect_kinds.draw("large shade", photo, seed) for seed in range(20)]
    brighter = [mask for damaged, mask in found if (damaged >= photo).all()]
    assert any(mask.any() for mask in brighter)
    assert not any(mask[:, 32:].any() for mask in brighter)
    assert any(mask[:, 32:].any() for _, mask in found)  # of darker ones


@pytest.fixture
def config(tiny_config, monkeypatch):
    """Of a detector whose reconstruction is grey, and whose map is the difference to it."""
    tiny_config.data.validation_share, tiny_config.image_size = 0.5, 64

    def judge(weights, photo, repaired, *, config):
        del weights, config
        difference = jax.numpy.abs(repaired.reconstruction - photo.image).mean(-1)
        return ml_collections.ConfigDict(
            {"anomaly_map": difference, "score": difference.max((1, 2))}
        )

    def grey(weights, photo, key, *, config, num_steps):
        del weights, key
        assert num_steps == config.reconstruction.test_steps
        half = jax.numpy.full_like(photo.image, 0.5)
        return Reconstruction(half, half[:, None])

    monkeypatch.setattr(held_out, "judge", judge)
    monkeypatch.setattr(held_out, "reconstruct", grey)
    monkeypatch.setattr(ablations, "encode", lambda weights, photo, config: photo.image)
    monkeypatch.setattr(
        ablations, "decode", lambda weights, c, z, gain, config: Reconstruction(c, c[:, None])
    )
    return ml_collections.FrozenConfigDict(tiny_config)


def held_out_photos(config):
    files = [r.file for r in layouts.normal_photos(config, "tiles")[1]]
    return held_out.held_out_photos(config, files)


@pytest.fixture
def metrics(config):
    return held_out.take_apart({}, config, held_out_photos(config))


def test_photos_that_show_no_defect_are_left_out(config, monkeypatch):
    def on_bright_photos(random, photo):
        del random
        return photo + 100, np.full(photo.shape[:2], float(photo.mean() > 100))

    monkeypatch.setattr(defect_kinds, "KINDS", {"blur": on_bright_photos})
    photos = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (90, 150, 90, 150)])
    row = held_out.take_apart({}, config, photos)["blur"]
    assert row["image_auroc"] == row["pixel_ap"] == 1.0


def test_a_defect_that_covers_half_of_no_pixel_is_still_a_defect(config, monkeypatch):
    def speck(random, photo):
        del random
        share = np.zeros(photo.shape[:2])
        share[20, 20] = 1.0
        return np.zeros_like(photo), share

    def area(random, photo):
        del random
        share = np.zeros(photo.shape[:2])
        share[:32, :32] = 1.0
        return np.zeros_like(photo), share

    monkeypatch.setattr(defect_kinds, "KINDS", {"blur": area, "speck": speck})
    side = 4 * config.image_size
    metrics = held_out.take_apart({}, config, np.full((2, side, side, 3), 110, np.uint8))
    assert metrics["speck"]["image_auroc"] == 1.0
    assert np.isnan(metrics["speck"]["pixel_ap"])
    assert metrics["mean"]["pixel_ap"] == metrics["blur"]["pixel_ap"] == 1.0


def test_a_perfect_reconstruction_finds_all_and_a_copy_nothing(metrics):
    assert set(metrics) == {*defect_kinds.KINDS, "mean"}
    for kind, row in metrics.items():
        # Of a hairline the map shows more pixels than those that it covers by half.
        assert row["ap_of_normal"] > (0.7 if kind == "hairline" else 0.9)
        assert row["ap_of_copy"] < 0.2


def test_decibels_are_of_the_grey_reconstruction(metrics):
    for row in metrics.values():
        assert row["inside"] == pytest.approx(row["outside"], abs=6)
        assert 0 < row["damaged"] < 50


def test_mean_is_over_the_kinds(metrics):
    kinds = [metrics[k]["image_auroc"] for k in defect_kinds.KINDS]
    assert metrics["mean"]["image_auroc"] == pytest.approx(np.mean(kinds))


@pytest.mark.parametrize(
    ("bad", "good", "score"),
    [
        ("brighter", "darker", lambda x: x.mean((1, 2))),
        ("darker", "brighter", lambda x: -x.mean((1, 2))),
        ("brighter below", "as they are", lambda x: x[:, -8:].mean((1, 2)) - x[:, :8].mean((1, 2))),
        (
            "brighter to the right",
            "as they are",
            lambda x: x[:, :, -8:].mean((1, 2)) - x[:, :, :8].mean((1, 2)),
        ),
    ],
)
def test_false_alarms_are_those_of_the_light(tiny_config, bad, good, score):
    tiny_config.data.validation_share = 0.3
    config = ml_collections.FrozenConfigDict(tiny_config)

    def predict(pixels):
        return types.SimpleNamespace(score=score(pixels.mean(-1, dtype=np.float64)))

    detector = types.SimpleNamespace(config=config, predict=predict)
    found = held_out.false_alarms(detector, held_out_photos(config))
    assert found["as they are"] == 0.0
    assert found[bad] > found[good] == 0.0


@pytest.mark.parametrize("name", ["held_out", "ablations"])
def test_what_a_user_can_put_right_ends_without_a_traceback(name, tmp_path):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--config=configs/demo.py"]
    command += [f"--workdir={tmp_path}", "--config.image_size=0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "error: config.image_size = 0: must be 1 or more"
    assert "Traceback" not in ended.stderr


def test_a_folder_without_a_training_is_named(tmp_path):
    command = [sys.executable, "-m", "benchmarks.export", f"--workdir={tmp_path}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"no category was trained in {tmp_path}" in ended.stderr.splitlines()[-1]
