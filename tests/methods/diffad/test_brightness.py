"""Photos in one light for the networks, in their own light outside."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from diffad_jax.errors import ConfigError
from diffad_jax.methods.diffad import autoencoder, brightness, method
from diffad_jax.methods.registry import check_config
from diffad_jax.training.loop import stage_key
from diffad_jax.types import Batch, to_float


@pytest.fixture
def config(tiny_config):
    tiny_config.autoencoder.exposure = 0.3
    return ml_collections.FrozenConfigDict(tiny_config)


def drawn(number: int) -> np.ndarray:
    """[n, 32, 32, 3] uint8: a bright product on a dark ground, with grain, nowhere white."""
    rng = np.random.default_rng(0)
    base = np.full((32, 32, 3), 30.0)
    base[8:24, 8:24] = 110.0
    return (base + rng.uniform(-8, 8, (number, 32, 32, 3))).astype(np.uint8)


@pytest.fixture
def fitted(config):
    photos = drawn(12)
    return {"light": brightness.fit(config, iter([photos[:8], photos[8:]]), {})}


def relative_gain(fitted, config, changed, photos):
    """Of ``changed`` to that of the same photos as they were."""
    gain = jax.jit(functools.partial(brightness.gain, config=config))
    return np.ravel(gain(fitted, changed) / gain(fitted, photos))


def test_normal_photos_come_to_the_exposure(fitted, config):
    photos = to_float(drawn(4))
    seen = brightness.gain(fitted, photos, config=config) * photos
    np.testing.assert_allclose(np.sqrt(np.mean(seen**2, (1, 2, 3))), 0.3, rtol=0.02)


@pytest.mark.parametrize("light", [0.5, 0.8, 1.2, 2.0])
def test_light_on_the_whole_photo_is_undone(fitted, config, light):
    photos = to_float(drawn(4))
    np.testing.assert_allclose(
        relative_gain(fitted, config, light * photos, photos), 1.0 / light, rtol=0.02
    )


def half(photos):
    return photos.at[:, :, :16].multiply(0.5)


def another_item(photos):
    return photos.at[:, 6:26, 6:26].multiply(0.4)


def a_spot(photos):
    return photos.at[:, 12:16, 12:16].set(1.0)


@pytest.mark.parametrize("defect", [half, another_item, a_spot])
def test_a_defect_does_not_move_the_light_of_the_rest(fitted, config, defect):
    photos = to_float(drawn(4))
    np.testing.assert_allclose(
        relative_gain(fitted, config, defect(photos), photos), 1.0, rtol=0.02
    )


def test_a_defect_in_other_light_is_told_from_it(fitted, config):
    photos = to_float(drawn(4))
    changed = 1.25 * another_item(photos)
    np.testing.assert_allclose(relative_gain(fitted, config, changed, photos), 0.8, rtol=0.03)


def test_at_zero_photos_stay_as_they_are_and_nothing_is_fitted(tiny_config):
    frozen = ml_collections.FrozenConfigDict(tiny_config)
    photos = to_float(drawn(3))
    np.testing.assert_array_equal(brightness.gain({}, photos, config=frozen), np.ones((3, 1, 1, 1)))
    assert "light" not in [stage.name for stage in method.stages(frozen)]
    tiny_config.autoencoder.exposure = 0.3
    assert method.stages(tiny_config)[0] is brightness.STAGE


def test_a_black_photo_has_a_gain(fitted, config):
    gain = brightness.gain(fitted, jnp.zeros((1, 32, 32, 3)), config=config)
    assert np.isfinite(gain).all() and (np.asarray(gain) > 0.0).all()


def test_shapes_are_those_of_what_is_fitted(fitted, config):
    shapes = brightness.STAGE.weights_shapes(config, {})
    assert jax.tree.map(lambda x: (x.shape, x.dtype), fitted["light"]) == jax.tree.map(
        lambda x: (x.shape, x.dtype), shapes
    )


def batch_in(light: float) -> Batch:
    """The augmented photo is brighter than the normal one in a corner."""
    normal = np.full((2, 16, 16, 3), int(40 * light), np.uint8)
    normal[:, ::2] *= 2
    augmented = normal.copy()
    augmented[:, :8, :8] *= 2
    mask = (augmented != normal)[..., :1].astype(np.uint8)
    return {"image": normal, "augmented_image": augmented, "anomaly_mask": mask}


def test_the_autoencoder_learns_the_same_from_a_batch_in_less_light(config):
    light = {"light": brightness.fit(config, iter([batch_in(1.0)["image"]]), {})}

    @jax.jit
    def loss(batch):
        state = autoencoder.init_state(config, stage_key(config, "autoencoder"), light, batch)
        return autoencoder.train_step(state, light, batch, config=config)[1]["loss"]

    np.testing.assert_allclose(loss(batch_in(1.0)), loss(batch_in(0.5)), rtol=0.02)


def test_an_impossible_exposure_is_named(tiny_config):
    tiny_config.autoencoder.exposure = -0.5
    with pytest.raises(ConfigError, match=r"autoencoder\.exposure = -0\.5: must lie in 0 … 1"):
        check_config(tiny_config)


def test_of_several_categories_the_one_counts_that_a_photo_looks_like(config):
    """Each is in the same light as with a detector of its own, its defects too."""
    dark = np.uint8(drawn(12)[:, ::-1] // 3)
    dark[:, :10] += 60  # nothing of the other's look
    alone = [{"light": brightness.fit(config, iter([p]), {})} for p in (drawn(12), dark)]
    together = {"light": brightness.join([weights["light"] for weights in alone])}
    for photos, weights in zip((drawn(4), dark[:4]), alone, strict=True):
        for changed in (to_float(photos), 0.7 * to_float(photos), a_spot(to_float(photos))):
            np.testing.assert_allclose(
                brightness.gain(together, changed, config=config),
                brightness.gain(weights, changed, config=config), rtol=1e-6,
            )  # fmt: skip
