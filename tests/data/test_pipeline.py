"""Batches: a pure function of (seed, index), whatever the start, the batch size, the processes."""

import itertools
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from diffad_jax.data import layouts, pipeline, synthesis, textures


def take(config, count, **kwargs):
    kwargs = {"split": "train", "batch_size": 4} | kwargs
    return list(itertools.islice(pipeline.batches(config, "tiles", **kwargs), count))


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_contract(tiny_config):
    batch = take(tiny_config, 1)[0]
    for name, channels in (("image", 3), ("augmented_image", 3), ("anomaly_mask", 1)):
        assert batch[name].shape == (4, 16, 16, channels) and batch[name].dtype == np.uint8
    assert set(np.unique(batch["anomaly_mask"])) <= {0, 1}


def test_two_runs_are_equal_and_another_seed_differs(tiny_config):
    first, again = take(tiny_config, 3), take(tiny_config, 3)
    for a, b in zip(first, again, strict=True):
        assert_equal(a, b)
    tiny_config.seed = 1
    assert not np.array_equal(first[0]["image"], take(tiny_config, 1)[0]["image"])


def test_any_step_is_reached_at_once(tiny_config):
    straight = take(tiny_config, 6)
    resumed = take(tiny_config, 2, start_step=4)
    for a, b in zip(straight[4:], resumed, strict=True):
        assert_equal(a, b)
    take(tiny_config, 1, start_step=10**9)


def test_stages_see_examples_of_their_own(tiny_config):
    denoiser, again, segmenter = (
        take(tiny_config, 2, stage=s)[1] for s in ("denoiser", "denoiser", "segmenter")
    )
    assert_equal(denoiser, again)
    assert not np.array_equal(denoiser["image"], segmenter["image"])


def test_processes_share_the_same_batch(tiny_config):
    whole = take(tiny_config, 3)
    shares = [take(tiny_config, 3, process_index=i, process_count=2) for i in (0, 1)]
    for batch, first, second in zip(whole, *shares, strict=True):
        together = {k: np.concatenate([first[k], second[k]]) for k in first}
        assert_equal(batch, together)
    with pytest.raises(ValueError, match="not a multiple of 3 processes"):
        take(tiny_config, 1, process_count=3)


def test_every_epoch_sees_new_anomalies(tiny_config):
    tiny_config.synthesis.normal_probability = 0.0
    batches = take(tiny_config, 12)
    masks = [m.tobytes() for b in batches for m in b["anomaly_mask"] if m.any()]
    assert len(set(masks)) == len(masks) > 20


@pytest.mark.parametrize(("shades", "unseen"), [(0.0, 0), (1.0, synthesis.JUST_SEEN)])
def test_anomalies_lie_inside_their_mask(tiny_config, shades, unseen):
    """But for soft edges of shades, see test_synthesis, and where nobody can see them."""
    tiny_config.synthesis.normal_probability = 0.0
    tiny_config.synthesis.own_texture_probability = 0.0
    tiny_config.synthesis.shade_probability = shades
    tiny_config.synthesis.shade_softness = 0.0
    changed = inside = 0
    for batch in take(tiny_config, 6):
        mask = batch["anomaly_mask"][..., 0].astype(bool)
        change = np.abs(batch["image"].astype(int) - batch["augmented_image"]).max(axis=-1)
        assert change[~mask].max(initial=0) <= unseen
        changed, inside = changed + (change[mask] > 0).sum(), inside + mask.sum()
    assert changed > 0.9 * inside


def test_the_share_of_normal_examples_is_the_configured_one(tiny_config):
    tiny_config.synthesis.normal_probability = 0.8
    masks = np.concatenate([b["anomaly_mask"] for b in take(tiny_config, 50)])
    share = np.mean(masks.any(axis=(1, 2, 3)))
    assert 0.08 < share < 0.3


def test_training_never_sees_a_held_out_photo(tiny_config):
    tiny_config.data.validation_share = 0.3
    splits = {s: pipeline.split_records(tiny_config, "tiles", s) for s in ("train", "validation")}
    files = {s: {r.file for r in records} for s, records in splits.items()}
    assert len(files["validation"]) == 3 and len(files["train"]) == 7
    assert not files["train"] & files["validation"]
    tiny_config.synthesis.rotation_probability = 0.0
    tiny_config.synthesis.max_light_change = 0.0
    photos = {b.tobytes() for batch in take(tiny_config, 20) for b in batch["image"]}
    held_out = {
        b.tobytes() for batch in take(tiny_config, 5, split="validation") for b in batch["image"]
    }
    assert len(photos) == 7 and len(held_out) == 3 and not photos & held_out


def test_streaming_equals_the_cache(tiny_config):
    cached = take(tiny_config, 3)
    tiny_config.data.cache_mib = 0
    for a, b in zip(cached, take(tiny_config, 3), strict=True):
        assert_equal(a, b)


def test_no_photo_is_held_out_where_the_config_says_so(tiny_config):
    tiny_config.data.validation_share = 0.0
    with pytest.raises(layouts.DataError, match="none of the 10 normal .*validation_share = 0.0"):
        take(tiny_config, 1, split="validation")


def test_flags_for_jax_do_not_end_tensorflow(tiny_config, tmp_path):
    """TensorFlow's XLA ends a process at a flag that it does not know."""
    (tmp_path / "config").write_bytes(pickle.dumps(tiny_config))
    code = (
        "import os, pickle, sys; from diffad_jax.data import pipeline;"
        "config = pickle.load(open(sys.argv[1], 'rb'));"
        "next(pipeline.batches(config, config.categories[0], split='train', batch_size=2));"
        "assert os.environ['XLA_FLAGS'] == '--xla_flag_of_tomorrow=1'"
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_flag_of_tomorrow=1"}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "config"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_categories_take_turns_from_any_step_on(tiny_config, tmp_path):
    """So batches hold as many of each, give or take one, whatever their numbers of photos."""
    tiny_config.synthesis.normal_probability = 1.0
    tiny_config.synthesis.rotation_probability = 0.0
    tiny_config.synthesis.max_light_change = 0.0
    files = []
    for name, level, number in (("a", 10, 1), ("b", 100, 5), ("c", 200, 2)):
        files.append([str(tmp_path / f"{name}{i}.png") for i in range(number)])
        for file in files[-1]:
            Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(file)
    batches = take(tiny_config, 4, files=files)
    levels = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches])
    assert levels.tolist() == [10, 100, 200] * 5 + [10]
    assert_equal(take(tiny_config, 1, files=files, start_step=3)[0], batches[3])


def test_stages_share_the_textures(tiny_config, monkeypatch):
    """Which may be thousands of photos to decode."""
    tiny_config.synthesis.max_beta = 0.77  # as no other test has it
    made, make = [], textures.texture_source
    monkeypatch.setattr(textures, "texture_source", lambda c: made.append(c) or make(c))
    first = take(tiny_config, 2, stage="denoiser")
    take(tiny_config, 1, stage="segmenter")
    take(tiny_config, 1, split="validation", stage="denoiser")
    assert len(made) == 1
    tiny_config.synthesis.max_beta = 0.1
    other = take(tiny_config, 2, stage="denoiser")
    assert len(made) == 2, "another recipe"
    assert not np.array_equal(first[0]["augmented_image"], other[0]["augmented_image"])
