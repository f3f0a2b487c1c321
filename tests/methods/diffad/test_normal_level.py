"""Maps relative to how high they rise on normal photos."""

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from diffad_jax.commands import train
from diffad_jax.errors import ConfigError
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.diffad import STAGES, method, normal_level
from diffad_jax.methods.diffad.reconstruct import Reconstruction
from diffad_jax.methods.registry import check_config
from diffad_jax.training.checkpoint import CheckpointError


@pytest.fixture
def config(tiny_config, monkeypatch):
    """Its segmenter finds a photo's first channel anomalous."""
    monkeypatch.setattr(
        normal_level,
        "reconstruct",
        lambda weights, photo, key, **_: Reconstruction(photo.image, photo.image),
    )
    monkeypatch.setattr(
        normal_level, "probabilities", lambda weights, repaired, photo, config: photo.image[..., 0]
    )
    return ml_collections.FrozenConfigDict(tiny_config)


def test_level_is_the_power_mean_of_each_pixel_over_all_photos(config):
    photos = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)
    level = normal_level.fit(config, iter([photos[:4], photos[4:]]), {})["level"]
    expected = np.mean((photos[..., 0] / 255.0) ** 6, axis=0) ** (1 / 6)
    np.testing.assert_allclose(level, expected, rtol=1e-5)
    assert level.dtype == np.float32


def test_more_photos_count_as_if_they_had_been_there_at_first(config):
    photos = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)
    fitted = normal_level.fit(config, iter([photos[:4]]), {})
    extended = normal_level.extend(config, fitted, 4, iter([photos[4:]]), {})
    at_once = normal_level.fit(config, iter([photos[:4], photos[4:]]), {})
    np.testing.assert_allclose(extended["level"], at_once["level"], rtol=1e-5)
    assert extended["level"].dtype == np.float32


def test_power_is_that_of_the_config(tiny_config, config):
    tiny_config.normal_level.power = 1.0
    photos = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    level = normal_level.fit(ml_collections.FrozenConfigDict(tiny_config), iter([photos]), {})
    np.testing.assert_allclose(level["level"], photos[..., 0].mean(0) / 255.0, rtol=1e-5)


def test_a_pixel_counts_by_the_level_of_its_place(config):
    level = np.full((16, 16), 0.9, np.float32)
    level[:, :8] = 0.0
    found = normal_level.relative(jnp.full((2, 16, 16), 0.5), {"level": level}, config=config)
    np.testing.assert_allclose(found[:, :, :8], 5.0, rtol=1e-6)
    np.testing.assert_allclose(found[:, :, 8:], 0.5, rtol=1e-6)


def test_without_a_floor_maps_are_probabilities_and_nothing_is_fitted(tiny_config):
    assert [s.name for s in method.stages(tiny_config)][3:] == ["normal_level"]
    assert method.map_range(tiny_config) is None
    assert "over (the level" in method.describe(tiny_config)["map"]
    tiny_config.normal_level.floor = 0.0
    assert method.stages(tiny_config) == STAGES
    assert method.map_range(tiny_config) == (0.0, 1.0)
    assert method.describe(tiny_config)["map"] == "probability"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("floor", -0.1, "config.normal_level.floor = -0.1: must be 0 or more"),
        ("floor", float("nan"), "config.normal_level.floor = nan: must be 0 or more"),
        ("power", 0.5, "config.normal_level.power = 0.5: must be 1 or more"),
    ],
)
def test_impossible_settings_are_named(tiny_config, field, value, message):
    tiny_config.normal_level[field] = value
    with pytest.raises(ConfigError, match=message):
        check_config(tiny_config)


def train_tiles(config, folder):
    train.train_category(config, folder / "tiles", "tiles", None)


def test_it_is_fitted_again_once_a_stage_before_has_learned_more(
    tiny_config, trained_workdir, capsys
):
    first = Detector.from_workdir(tiny_config, trained_workdir, "tiles")
    train_tiles(tiny_config, trained_workdir)
    assert "tiles/normal_level: finished before" in capsys.readouterr().err
    tiny_config.segmentation.steps = 6
    with pytest.raises(CheckpointError, match="step 4 of 6"):
        Detector.from_workdir(tiny_config, trained_workdir, "tiles")
    train_tiles(tiny_config, trained_workdir)
    assert "tiles/normal_level: fitted in" in capsys.readouterr().err
    again = Detector.from_workdir(tiny_config, trained_workdir, "tiles")
    levels = [np.asarray(d.weights["normal_level"]["level"]) for d in (first, again)]
    assert levels[0].shape == (16, 16) and not np.array_equal(*levels)


def test_it_is_of_the_steps_at_test_that_it_was_fitted_with(tiny_config, trained_workdir):
    tiny_config.reconstruction.test_steps = 1
    with pytest.raises(CheckpointError, match=r"normal_level .*\n.*test_steps: 2 there, 1 here"):
        Detector.from_workdir(tiny_config, trained_workdir, "tiles")
    tiny_config.normal_level.floor = 0.0  # what is trained serves any number
    Detector.from_workdir(tiny_config, trained_workdir, "tiles")
