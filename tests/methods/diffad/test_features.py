"""Features of a trained network beside the pictures that the segmenter sees."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from diffad_jax.errors import ConfigError
from diffad_jax.methods.diffad import brightness, features, method, networks, segmentation
from diffad_jax.methods.diffad.reconstruct import Reconstruction
from diffad_jax.methods.diffad.segment import segment
from diffad_jax.methods.registry import check_config
from diffad_jax.models.segmenter import Segmenter
from diffad_jax.types import to_float

PHOTOS = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)


@pytest.fixture
def config(tiny_config):
    tiny_config.segmentation.features = "efficientnet_lite0"
    tiny_config.segmentation.multipliers = (1, 2)
    return ml_collections.FrozenConfigDict(tiny_config)


@pytest.fixture
def backbone(config):
    network = networks.feature_network(config)
    return {"backbone": jax.jit(network.init)(jax.random.key(0), to_float(PHOTOS[:1]))["params"]}


@pytest.fixture
def weights(config, backbone):
    return {"features": features.fit(config, iter([PHOTOS[:4], PHOTOS[4:]]), backbone)}


def test_levels_see_the_maps_of_their_size(tiny_config):
    c = tiny_config.segmentation
    assert networks.feature_maps(tiny_config) == ()
    c.features, c.patch_size, c.multipliers = "efficientnet_lite0", 2, (1, 2, 4, 8, 8)
    assert [n for n, _ in networks.feature_maps(tiny_config)] == [
        "stage1", "stage2", "stage3", "stage5"
    ]  # fmt: skip
    c.patch_size, c.multipliers = 1, (1, 2)
    assert [n for n, _ in networks.feature_maps(tiny_config)] == ["stage1"]


def test_channels_are_standardised_on_the_normal_photos(config, weights):
    image = to_float(PHOTOS)
    found = photo_features(config, weights, image)
    for x in found:
        np.testing.assert_allclose(np.mean(x, (0, 1, 2)), 0.0, atol=1e-3)
        spread = np.std(x, (0, 1, 2))
        np.testing.assert_allclose(spread[spread > 0.9], 1.0, atol=1e-2)
        assert np.mean(spread > 0.9) > 0.5  # the others are at rest


def photo_features(config, weights, image):
    changed = ml_collections.ConfigDict(config)
    changed.segmentation.compare = "photo"
    same = Reconstruction(image, image[:, None])
    frozen = ml_collections.FrozenConfigDict(changed)
    photo = brightness.exposed(weights, image, config=frozen)
    return features.compared(weights, same, photo, config=frozen)


def test_distances_are_those_to_the_features_of_the_reconstruction(config, weights):
    image, other = to_float(PHOTOS[:2]), to_float(PHOTOS[2:4])
    photo = brightness.exposed(weights, image, config=config)
    found = features.compared(weights, Reconstruction(other, other[:, None]), photo, config=config)
    of_image, of_other = (photo_features(config, weights, x) for x in (image, other))
    for x, a, b in zip(found, of_image, of_other, strict=True):
        distance, photo = np.split(x, 2, axis=-1)
        np.testing.assert_allclose(distance, np.abs(a - b), atol=1e-4)
        np.testing.assert_allclose(photo, a, atol=1e-4)


def test_shapes_are_those_of_what_is_fitted(config, weights):
    shapes = features.STAGE.weights_shapes(config, {})
    fitted = jax.tree.map(lambda x: x.shape, weights["features"])
    assert fitted == jax.tree.map(lambda x: x.shape, shapes)


def test_the_segmenter_learns_with_them(config, weights):
    batch = {
        "image": PHOTOS[:2],
        "augmented_image": PHOTOS[:2],
        "anomaly_mask": np.ones((2, 16, 16, 1), np.uint8),
    }
    state = segmentation.init_state(config, jax.random.key(1), weights, batch)
    assert {"project_0", "project_1"} < state.params.keys()
    image = to_float(PHOTOS[:2])

    def logits(other):
        seen = Reconstruction(other, other[:, None])
        trained = weights | {"segmenter": segmentation.weights(state)}
        photo = brightness.exposed(trained, image, config=config)
        return segment(trained, seen, photo, config=config)

    assert logits(image).shape == (2, 16, 16, 2)
    assert not np.allclose(logits(image), logits(1.0 - image))


def test_a_segmenter_without_projections_takes_no_features():
    with pytest.raises(ValueError, match="zip"):
        Segmenter(channels=4, multipliers=(1,)).init(
            jax.random.key(0), jnp.zeros((1, 8, 8, 9)), [jnp.zeros((1, 8, 8, 3))], train=False
        )


def test_they_are_fitted_before_the_segmenter(config):
    names = [stage.name for stage in method.stages(config)]
    assert names.index("features") == names.index("segmenter") - 1


def test_an_unknown_network_is_named(tiny_config):
    tiny_config.segmentation.features = "resnet"
    with pytest.raises(ConfigError, match=r"segmentation\.features = 'resnet': choose one of none"):
        check_config(tiny_config)
