"""Recorded examples equal the live ones; what does not fit is refused."""

import itertools
import zipfile

import numpy as np
import pytest

from diffad_jax.commands import train
from diffad_jax.commands.record import record
from diffad_jax.data import pipeline, recorded
from diffad_jax.data.recorded import RecordingError
from diffad_jax.errors import UserError


@pytest.fixture
def config(tiny_config, tmp_path):
    tiny_config.training.validation_examples = 3
    record(tiny_config, tmp_path / "tiles.zip", 8)
    tiny_config.data.recorded = str(tmp_path / "tiles.zip")
    return tiny_config


def test_a_file_that_is_there_is_not_replaced_unasked(tiny_config, tmp_path):
    path = tmp_path / "mine.zip"
    path.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"mine\.zip is there already: .*--overwrite"):
        record(tiny_config, path, 2)
    assert path.read_bytes() == b"mine"
    record(tiny_config, path, 2, overwrite=True)
    assert recorded.Recording(path).count("train") == 2


def take(config, count, **kwargs):
    kwargs = {"split": "train", "batch_size": 4} | kwargs
    return list(itertools.islice(recorded.batches(config, ["tiles"], **kwargs), count))


@pytest.mark.parametrize("shade_probability", [0.0, 1.0])
def test_examples_equal_the_live_ones_bit_for_bit(tiny_config, tmp_path, shade_probability):
    """Soft shades reach beyond their masks."""
    tiny_config.synthesis.shade_probability = shade_probability
    tiny_config.synthesis.shade_softness = 0.6
    record(tiny_config, tmp_path / "tiles.zip", 8)
    recording = recorded.Recording(tmp_path / "tiles.zip")
    live = pipeline.batches(tiny_config, "tiles", split="train", batch_size=1)
    anomalous = beyond = 0
    for i, batch in zip(range(8), live, strict=False):
        example = recording.example("train", i)
        changed = example["augmented_image"] != example["image"]
        anomalous += int(example["anomaly_mask"].any())
        beyond += int((changed & (example["anomaly_mask"] == 0)).any())
        for name, value in batch.items():
            np.testing.assert_array_equal(example[name], value[0], err_msg=name)
    assert 0 < anomalous < 8 and (beyond > 0) == (shade_probability > 0)


def test_each_epoch_has_every_example_in_another_order(config):
    batches = take(config, 4)
    epochs = [np.concatenate([b["image"] for b in batches[i : i + 2]]) for i in (0, 2)]
    assert not np.array_equal(epochs[0], epochs[1])
    sums = [sorted(e.sum(axis=(1, 2, 3)).tolist()) for e in epochs]
    assert sums[0] == sums[1]


def test_stages_see_the_examples_in_orders_of_their_own(config):
    orders = [take(config, 2, stage=s) for s in ("denoiser", "denoiser", "segmenter")]
    images = [np.concatenate([b["image"] for b in order]) for order in orders]
    np.testing.assert_array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_any_step_is_reached_at_once(config):
    for a, b in zip(take(config, 5)[3:], take(config, 2, start_step=3), strict=True):
        np.testing.assert_array_equal(a["augmented_image"], b["augmented_image"])


def test_processes_share_a_batch(config):
    whole = take(config, 3)
    shares = [take(config, 3, process_index=i, process_count=2) for i in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        for name, value in batch.items():
            np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), value)


def test_validation_examples_stay_as_they_are(config):
    recording = recorded.Recording(config.data.recorded)
    batch = take(config, 1, split="validation", batch_size=3)[0]
    for i in range(3):
        np.testing.assert_array_equal(
            batch["image"][i], recording.example("validation", i)["image"]
        )


def test_another_purpose_is_refused(config):
    with pytest.raises(RecordingError, match="recorded with categories = tiles, the config says x"):
        next(recorded.batches(config, ["x"], split="train", batch_size=2))
    config.image_size = 32
    with pytest.raises(RecordingError, match="recorded with image_size = 16, the config says 32"):
        take(config, 1)


@pytest.mark.parametrize(
    "field, value",
    [
        ("seed", 7),
        ("data.resize", "bilinear"),
        ("data.validation_share", 0.4),
        ("synthesis.max_beta", 0.3),
    ],
)
def test_other_photos_or_anomalies_are_refused_by_name(config, field, value):
    """Another seed or share holds out other photos, which would be among the examples."""
    config.update_from_flattened_dict({field: value})
    with pytest.raises(RecordingError, match=f"with {field} = .*, the config says {value}: record"):
        take(config, 1)


def test_an_absent_one_is_missed_before_anything_is_done(config, tmp_path):
    config.data.recorded = str(tmp_path / "absent.zip")
    with pytest.raises(RecordingError, match=r"there is no .*absent.zip"):
        train.train_and_evaluate(config, tmp_path / "run", None)
    assert not (tmp_path / "run").exists()


def test_damage_is_named(config, tmp_path):
    content = (tmp_path / "tiles.zip").read_bytes()
    (tmp_path / "tiles.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordingError, match=r"tiles.zip is no whole recording"):
        take(config, 1)
    config.data.recorded = str(tmp_path / "absent.zip")
    with pytest.raises(RecordingError, match=r"there is no .*absent.zip; write it with"):
        take(config, 1)


def test_a_damaged_example_is_named_when_its_turn_comes(config, tmp_path):
    good, bad = tmp_path / "tiles.zip", tmp_path / "bad.zip"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, b"x" if name == "train/0000005.mask" else content)
    config.data.recorded = str(bad)
    with pytest.raises(RecordingError, match=r"bad.zip: example train/0000005 is damaged"):
        take(config, 2)  # an epoch


@pytest.mark.parametrize("cache_mib", [0, 1])
def test_photos_stay_in_memory_as_far_as_the_config_allows(config, monkeypatch, cache_mib):
    """What was added to a photo is decoded each time."""
    decoded = []
    reader = recorded.WebPImagePlugin.WebPImageFile
    monkeypatch.setattr(
        recorded.WebPImagePlugin, "WebPImageFile", lambda f: decoded.append(0) or reader(f)
    )
    recording = recorded.Recording(config.data.recorded, cache_mib)
    with zipfile.ZipFile(config.data.recorded) as archive:
        photos = {archive.read(f"train/{i:07d}.image") for i in range(8)}
    counts = []
    for _ in range(2):
        decoded.clear()
        for i in range(8):
            recording.example("train", i)
        counts.append(len(decoded))
    assert counts == ([8 + len(photos), 8] if cache_mib else [16, 16])
