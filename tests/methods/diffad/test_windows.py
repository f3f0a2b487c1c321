"""Networks that see windows of a photo: where they lie, how they are joined, what a step sees."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from parity.parity_cases import formula_weight

from diffad_jax.methods.diffad import STAGES, brightness, method, networks, segmentation, windows
from diffad_jax.methods.diffad.brightness import Exposed

KEY = jax.random.key(0)


@pytest.fixture
def of_size(tiny_config):
    """A function: size of the photos, window -> the config."""

    def config(size, window):
        tiny_config.image_size, tiny_config.autoencoder.window = size, window
        return ml_collections.FrozenConfigDict(tiny_config)

    return config


def photos(*shape):
    return jax.random.uniform(KEY, (*shape, 3))


@pytest.mark.parametrize("size", [32, (32, 48), (16, 40), 16])
def test_windows_of_a_photo_come_together_to_the_photo(of_size, size):
    config = of_size(size, 16)
    image = photos(2, *np.broadcast_to(size, 2))
    parts = windows.cut(Exposed(image, jnp.array([[[[1.0]]], [[[2.0]]]])), config=config)
    assert parts.image.shape[1:] == (16, 16, 3)
    np.testing.assert_array_equal(parts.image[0], image[0, :16, :16])
    np.testing.assert_array_equal(parts.image[-1], image[1, -16:, -16:])
    assert set(parts.gain[: len(parts.gain) // 2].ravel().tolist()) == {1.0}
    np.testing.assert_allclose(windows.joined(parts.image, config=config), image, atol=1e-6)
    grey = windows.joined(parts.image[..., 0], config=config)
    np.testing.assert_allclose(grey, image[..., 0], atol=1e-6)


def test_a_step_sees_the_same_window_of_all_pictures_of_an_example(of_size):
    config = of_size((32, 24), 16)
    rows, columns = np.meshgrid(np.arange(32), np.arange(24), indexing="ij")
    place = np.stack([rows, columns, rows], -1).astype(np.uint8)[None].repeat(8, 0)
    batch = {"image": place, "augmented_image": place + 1, "anomaly_mask": place[..., :1] % 2}
    seen, gain = windows.drawn({}, batch, "image", KEY, config=config)
    assert gain.shape == (8, 1, 1, 1)
    np.testing.assert_array_equal(seen["augmented_image"], seen["image"] + 1)
    np.testing.assert_array_equal(seen["anomaly_mask"], seen["image"][..., :1] % 2)
    corners = np.asarray(seen["image"][:, 0, 0, :2], int)
    wanted = [place[0, top : top + 16, left : left + 16] for top, left in corners]
    np.testing.assert_array_equal(seen["image"], wanted)
    assert len(np.unique(corners, axis=0)) > 4, "each example has a window of its own"
    again, _ = windows.drawn({}, batch, "image", KEY, config=config)
    np.testing.assert_array_equal(seen["image"], again["image"])
    other, _ = windows.drawn({}, batch, "image", jax.random.key(1), config=config)
    assert not np.array_equal(seen["image"], other["image"])


def test_all_windows_are_drawn(of_size):
    config = of_size(18, 16)
    place = np.add.outer(3 * np.arange(18), np.arange(18)).astype(np.uint8)[None, ..., None]
    image = np.repeat(np.repeat(place, 3, -1), 200, 0)
    batch = {"image": image, "augmented_image": image, "anomaly_mask": image[..., :1]}
    seen, _ = windows.drawn({}, batch, "image", KEY, config=config)
    assert {*np.asarray(seen["image"][:, 0, 0, 0]).tolist()} == {0, 1, 2, 3, 4, 5, 6, 7, 8}


def test_the_light_is_that_of_the_whole_photo(of_size, monkeypatch):
    config = of_size(32, 16)
    monkeypatch.setattr(
        brightness, "gain", lambda _, image, *, config: image.mean((1, 2, 3), keepdims=True)
    )
    dark_below = np.full((1, 32, 32, 3), 200, np.uint8)
    dark_below[:, 16:] = 0
    batch = {name: dark_below for name in ("image", "augmented_image")}
    batch["anomaly_mask"] = dark_below[..., :1]
    _, gain = windows.drawn({}, batch, "image", KEY, config=config)
    np.testing.assert_allclose(gain.ravel(), [100 / 255], rtol=1e-4)


def test_without_a_window_nothing_changes(of_size):
    config = of_size(32, 0)
    image = photos(2, 32, 32)
    photo = Exposed(image, jnp.ones((2, 1, 1, 1)))
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    assert windows.cut(photo, config=config) is photo
    assert windows.joined(image, config=config) is image
    batch = {"image": pixels, "augmented_image": pixels, "anomaly_mask": pixels[..., :1]}
    assert windows.drawn({}, batch, "image", KEY, config=config)[0] is batch
    sections = [stage.sections for stage in method.stages(config)]
    window = [stage.sections for stage in method.stages(of_size(32, 16))]
    assert all(len(a) + 1 == len(b) for a, b in zip(sections, window, strict=True) if a != b)


def test_networks_are_as_large_as_the_window(of_size):
    assert networks.seen_size(of_size((16, 48), 32)) == (16, 32)
    assert networks.seen_size(of_size(32, 0)) == (32, 32)
    config = of_size(64, 16)
    assert networks.latent_shape(config) == (4, 4, 8)
    state = jax.eval_shape(
        lambda key: segmentation.init_state(config, key, {}, {}), jax.random.key(0)
    )
    assert state.params


def test_a_photo_is_judged_as_its_windows_are(of_size, tiny_config):
    """By a detector of photos as small as a window; then blended, and scored as a whole."""
    tiny_config.autoencoder.exposure = tiny_config.normal_level.floor = 0.0
    small, large = of_size(16, 0), of_size((16, 28), 16)
    weights = {}
    for stage in STAGES:
        shapes = stage.weights_shapes(small, weights)
        weights[stage.name] = jax.tree_util.tree_map_with_path(
            lambda path, leaf: formula_weight(tuple(e.key for e in path), leaf.shape), shapes
        )
    weights["denoiser"]["scale"] = np.float32(1.5)
    stats = weights["segmenter"]["batch_stats"]
    weights["segmenter"]["batch_stats"] = jax.tree.map(jnp.ones_like, stats)
    image = np.asarray(255 * photos(2, 16, 28)).astype(np.uint8)
    whole, alone = (
        jax.jit(functools.partial(method.predict, seed=0, config=c)) for c in (large, small)
    )
    found = whole(weights, image)
    first, last = (alone(weights, image[:, :, left : left + 16]) for left in (0, 12))
    for name in ("anomaly_map", "reconstruction"):
        joined, left, right = (np.asarray(getattr(x, name)) for x in (found, first, last))
        np.testing.assert_allclose(joined[:, :, :12], left[:, :, :12], atol=1e-5)
        np.testing.assert_allclose(joined[:, :, 16:], right[:, :, 4:], atol=1e-5)
        middle = np.stack([left[:, :, 12:], right[:, :, :4]])
        assert (joined[:, :, 12:16] <= middle.max(0) + 1e-5).all()
        assert (joined[:, :, 12:16] >= middle.min(0) - 1e-5).all()
    assert found.interpolated.shape == (2, 1, 16, 28, 3)
    assert np.ptp(found.anomaly_map) > 0, "a constant map would hide a difference"
