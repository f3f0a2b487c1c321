"""Photos at one brightness for the networks, in their own light outside."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from diffad_jax.errors import ConfigError
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.diffad import autoencoder, brightness, latent_diffusion
from diffad_jax.methods.registry import check_config
from diffad_jax.training.loop import stage_key
from diffad_jax.types import Batch

IMAGES = jax.random.uniform(jax.random.key(0), (3, 16, 16, 3), minval=0.1, maxval=0.5)


def gain(images, config):
    return brightness.gain(images, config=ml_collections.FrozenConfigDict(config))


def test_all_photos_come_to_the_same_root_mean_square(tiny_config):
    images = IMAGES * jnp.array([0.2, 1.0, 2.0]).reshape(3, 1, 1, 1)
    tiny_config.autoencoder.exposure = 0.3
    exposed = gain(images, tiny_config) * images
    np.testing.assert_allclose(np.sqrt(np.mean(exposed**2, (1, 2, 3))), 0.3, rtol=1e-5)


def test_at_zero_photos_stay_as_they_are(tiny_config):
    tiny_config.autoencoder.exposure = 0.0
    np.testing.assert_array_equal(gain(IMAGES, tiny_config), np.ones((3, 1, 1, 1)))


def test_a_black_photo_is_not_divided_by_nothing(tiny_config):
    tiny_config.autoencoder.exposure = 0.3
    np.testing.assert_allclose(gain(jnp.zeros_like(IMAGES), tiny_config), 15.0, rtol=1e-5)


def test_a_photo_in_less_light_has_the_same_map_and_a_darker_reconstruction(tiny_config, trained):
    detector = Detector.from_workdir(tiny_config, trained.workdir, "tiles")
    photos = np.random.default_rng(0).integers(6, 32, (4, 16, 16, 3), np.uint8)
    bright, dark = (detector.predict_all(x * photos, 4) for x in (4, 1))
    np.testing.assert_allclose(bright.anomaly_map, dark.anomaly_map, rtol=1e-3)
    inside = (bright.reconstruction > 0.0) & (bright.reconstruction < 1.0)
    assert inside.any()
    np.testing.assert_allclose(
        0.25 * bright.reconstruction[inside], dark.reconstruction[inside], atol=1e-4
    )


def batch_in(light: float) -> Batch:
    """The augmented photo is brighter than the normal one in a corner."""
    normal = np.full((2, 16, 16, 3), int(40 * light), np.uint8)
    normal[:, ::2] *= 2
    augmented = normal.copy()
    augmented[:, :8, :8] *= 2
    mask = (augmented != normal)[..., :1].astype(np.uint8)
    return {"image": normal, "augmented_image": augmented, "anomaly_mask": mask}


def test_stages_learn_the_same_from_a_batch_in_less_light(tiny_config):
    config = ml_collections.FrozenConfigDict(tiny_config)

    @jax.jit
    def losses(batch):
        first = autoencoder.init_state(config, stage_key(config, "autoencoder"), {}, batch)
        frozen = {"autoencoder": autoencoder.weights(first)}
        second = latent_diffusion.init_state(config, stage_key(config, "denoiser"), frozen, batch)
        steps = ((autoencoder, first, {}), (latent_diffusion, second, frozen))
        return [s.train_step(x, f, batch, config=config)[1]["loss"] for s, x, f in steps]

    np.testing.assert_allclose(losses(batch_in(1.0)), losses(batch_in(0.5)), rtol=1e-3)


def test_an_impossible_exposure_is_named(tiny_config):
    tiny_config.autoencoder.exposure = -0.5
    with pytest.raises(ConfigError, match=r"autoencoder\.exposure = -0\.5: must lie in 0 … 1"):
        check_config(tiny_config)
