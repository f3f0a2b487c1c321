"""Stage 2: which noise the denoiser sees, of the latent and of the condition."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from diffad_jax.methods.diffad import latent_diffusion, networks


def given(tiny_config, **changes):
    """Config, state and frozen weights."""
    tiny_config.autoencoder.num_res_blocks = 0
    tiny_config.diffusion.update({"multipliers": (1,), "num_res_blocks": 0} | changes)
    config = ml_collections.FrozenConfigDict(tiny_config)
    image = jnp.zeros((1, 16, 16, 3))
    frozen = {"autoencoder": jax.jit(networks.autoencoder(config).init)(jax.random.key(0), image)}
    start = functools.partial(latent_diffusion.init_state, config, jax.random.key(1))
    return config, jax.jit(start)(frozen, batch()), frozen


def batch(seed=0):
    """32 examples; the seed is that of the augmented ones."""
    image, augmented = (
        np.random.default_rng(s).integers(0, 256, (32, 16, 16, 3), np.uint8) for s in (0, seed)
    )
    mask = np.zeros((32, 16, 16, 1), np.uint8)
    return {"image": image, "augmented_image": augmented, "anomaly_mask": mask}


@pytest.fixture
def timesteps(tiny_config, monkeypatch):
    """To which ones a training step noises: z, then the condition."""
    seen = []

    def q_sample(z, t, noise, alpha_bar):
        del noise, alpha_bar
        seen.append(t)
        return z

    def run(**changes):
        config, state, frozen = given(tiny_config, **changes)

        @jax.jit
        def drawn(state):  # the compiler leaves out all that they do not need
            latent_diffusion.train_step(state, frozen, batch(), config=config)
            return seen

        monkeypatch.setattr(latent_diffusion.schedule, "q_sample", q_sample)
        return [np.asarray(t) for t in drawn(state)]

    return run


def test_they_are_drawn_from_the_configured_ones(timesteps):
    t, s = timesteps(trained_timesteps=(700, 704), condition_timesteps=(10, 12))
    assert set(t) == {700, 701, 702, 703} and set(s) == {10, 11}


def test_a_shared_timestep_is_one(timesteps):
    t, s = timesteps(condition_noise="shared")
    np.testing.assert_array_equal(t, s)
    assert len(set(t)) > 16


def test_a_clean_condition_is_not_noised(timesteps):
    assert len(timesteps(condition_noise="none")) == 1


def test_a_hidden_condition_is_not_seen(tiny_config):
    tiny_config.autoencoder.exposure = 0.0  # else it tells how bright the normal photo is seen
    config, state, frozen = given(tiny_config, condition_noise="hidden")
    step = jax.jit(functools.partial(latent_diffusion.train_step, config=config))
    one, other = (step(state, frozen, batch(seed))[1]["loss"] for seed in (1, 2))
    assert one == other


def test_anomalies_count_by_their_weight_and_their_share_of_a_patch(tiny_config):
    config, state, frozen = given(tiny_config, anomaly_weight=5.0)
    step = jax.jit(functools.partial(latent_diffusion.train_step, config=config))

    def loss(mask):
        return step(state, frozen, batch() | {"anomaly_mask": mask})[1]["loss"]

    normal = np.zeros((32, 16, 16, 1), np.uint8)
    striped = normal.copy()
    striped[:, :, ::2] = 1
    np.testing.assert_allclose(loss(normal + 1), 5.0 * loss(normal), rtol=1e-5)
    np.testing.assert_allclose(loss(striped), 3.0 * loss(normal), rtol=1e-5)
