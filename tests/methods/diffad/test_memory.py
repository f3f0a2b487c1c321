"""Distances to normal photos' features beside the segmenter's map."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from scipy.spatial import distance

from diffad_jax.errors import ConfigError
from diffad_jax.methods.diffad import brightness, features, memory, method, networks, normal_level
from diffad_jax.methods.diffad.reconstruct import Reconstruction
from diffad_jax.methods.registry import check_config
from diffad_jax.types import to_float

RNG = np.random.default_rng(0)
PLAIN = RNG.integers(100, 116, (1, 32, 32, 3), np.uint8)
PHOTOS = np.clip(PLAIN + RNG.integers(-4, 5, (9, 32, 32, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def tiny(tiny_config):
    tiny_config.image_size, tiny_config.evaluation.batch_size = 32, len(PHOTOS)
    tiny_config.segmentation.features = "efficientnet_lite0"
    tiny_config.segmentation.multipliers = (1, 2)
    tiny_config.memory.patches = 40
    return tiny_config


@pytest.fixture
def config(tiny):
    return ml_collections.FrozenConfigDict(tiny)


@pytest.fixture
def earlier(config):
    network = networks.feature_network(config)
    params = jax.jit(network.init)(jax.random.key(0), to_float(PHOTOS[:1]))["params"]
    return {"features": features.fit(config, iter([PHOTOS]), {"backbone": params})}


@pytest.fixture
def weights(config, earlier):
    return earlier | {"memory": memory.fit(config, iter([PHOTOS[:4], PHOTOS[4:]]), earlier)}


def test_the_bank_holds_patches_of_the_coarse_layers(weights):
    assert weights["memory"]["bank"].shape == (40, 24)  # of stage2
    assert weights["memory"]["bank"].dtype == np.float16


def test_small_photos_are_enlarged_for_the_network(config, weights):
    for side, patches in ((64, 16), (224, 28), (232, 29)):
        seen = jax.ShapeDtypeStruct((2, side, side, 3), np.float32)
        found = jax.eval_shape(functools.partial(memory.patches, config=config), weights, seen)
        assert found.shape == (2, patches, patches, 24)


def test_the_scale_is_how_far_a_photo_outside_the_bank_reaches(config, weights):
    bank, scale = weights["memory"]["bank"].astype(np.float64), weights["memory"]["scale"]
    patches = memory.patches(weights, to_float(PHOTOS[7:8]), config=config)  # the eighth
    farthest = distance.cdist(patches.reshape(-1, 24), bank).min(axis=1).max()
    np.testing.assert_allclose(scale, farthest, rtol=1e-4)
    # So its map, which is smoothed, just reaches 1.
    found = memory.distances(weights, to_float(PHOTOS[7:8]), config=config)
    assert 0.7 < found.max() <= 1.0001


def test_a_defect_is_farther_than_normal_photos_and_where_it_lies(config, weights):
    image = to_float(PHOTOS[:2])
    defect = image.at[1, 8:16, 20:28].set(jnp.array([1.0, 0.0, 0.0]))
    found = np.asarray(memory.distances(weights, defect, config=config))
    assert found.shape == (2, 32, 32)
    assert found[1].max() > 2.0 * found[0].max()
    row, column = np.unravel_index(found[1].argmax(), found[1].shape)
    assert 6 <= row < 18 and 18 <= column < 30


def test_one_photo_and_photos_without_any_difference_give_finite_maps(config, earlier):
    for photos in (PHOTOS[:1], np.full((3, 32, 32, 3), 128, np.uint8)):
        fitted = earlier | {"memory": memory.fit(config, iter([photos]), earlier)}
        assert np.isfinite(memory.distances(fitted, to_float(PHOTOS), config=config)).all()


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_distances_count_more_where_the_segmenter_suspects(tiny, weights, floor, monkeypatch):
    tiny.normal_level.floor = floor
    config = ml_collections.FrozenConfigDict(tiny)
    probability = jnp.linspace(0.0, 1.0, 32 * 32).reshape(1, 32, 32)
    monkeypatch.setattr(method, "probabilities", lambda *args, **kwargs: probability)
    level = np.full((32, 32), 0.3, np.float32)
    image = to_float(PHOTOS[:1])
    judged = method.judge(
        weights | {normal_level.NAME: {"level": level}},
        brightness.exposed(weights, image, config=config),
        Reconstruction(image, image[:, None]), config=config,
    )  # fmt: skip
    share = probability * floor / (0.3 + floor) if floor else probability
    wanted = memory.distances(weights, image, config=config) * (1.0 + 2.0 * share)
    np.testing.assert_allclose(judged.anomaly_map, wanted, rtol=1e-5)


def test_it_changes_no_stage_but_the_level(config):
    """So that a trained detector gets a bank without training again."""
    names = [stage.name for stage in method.stages(config)]
    assert names.index("memory") == names.index("segmenter") + 1
    assert names[-1] == normal_level.NAME


def test_without_features_there_is_nothing_to_compare(tiny):
    tiny.segmentation.features = "none"
    with pytest.raises(ConfigError, match=r"memory\.patches = 40: needs .*segmentation\.features"):
        check_config(tiny)
    tiny.segmentation.features, tiny.segmentation.multipliers = "efficientnet_lite0", (1,)
    with pytest.raises(ConfigError, match=r"a level of the segmenter 4 times smaller"):
        check_config(tiny)
