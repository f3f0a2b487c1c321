"""From a photo to its defect-free version: conditions, noise, mixtures, and what they cost."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from conftest import TINY
from parity.parity_cases import formula_weight

from configs import mvtec_small
from diffad_jax.methods.diffad import networks, reconstruct, segmentation
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.models.autoencoder import Decoder

KEY = jax.random.key(3)
PHOTOS = jax.random.uniform(jax.random.key(0), (3, 16, 16, 3))


def as_they_are(photos) -> Exposed:
    """With a gain of 1."""
    return Exposed(photos, jnp.ones((len(photos), 1, 1, 1)))


def small_config(**changes) -> ml_collections.FrozenConfigDict:
    """The tiny config; ``changes`` are of its section ``reconstruction``."""
    config = mvtec_small.get_config("tiles")
    for field, value in TINY.items():
        section, _, name = field.rpartition(".")
        (config[section] if section else config)[name] = value
    config.autoencoder.num_res_blocks = 0
    config.autoencoder.exposure = 0.0
    config.diffusion.multipliers = (1,)
    config.segmentation.patch_size = 1
    config.reconstruction.update(changes)
    return ml_collections.FrozenConfigDict(config)


@pytest.fixture(scope="module")
def weights():
    config = small_config()
    height, width, channels = networks.latent_shape(config)
    latents, t = jnp.zeros((1, height, width, 2 * channels)), jnp.zeros(1, jnp.int32)
    shapes = {
        "autoencoder": jax.eval_shape(networks.autoencoder(config).init, KEY, PHOTOS),
        "denoiser": jax.eval_shape(networks.denoiser(config).init, KEY, latents, t),
    }
    filled = jax.tree_util.tree_map_with_path(
        lambda path, leaf: formula_weight(tuple(entry.key for entry in path), leaf.shape), shapes
    )
    filled["denoiser"]["scale"] = np.float32(1.5)
    return filled


def run(weights, photos=PHOTOS, key=KEY, shared_noise=True, **changes):
    fn = functools.partial(
        reconstruct.reconstruct,
        config=small_config(**changes),
        num_steps=2,
        shared_noise=shared_noise,
    )
    return jax.jit(fn)(weights, as_they_are(photos), key)


def test_a_noisy_condition_gives_another_reconstruction(weights):
    clean, noisy = (run(weights, condition=c).reconstruction for c in ("clean", "noisy"))
    assert np.abs(clean - noisy).max() > 1e-2


@pytest.mark.parametrize("shared_noise", [True, False])
def test_a_noisy_conditions_timesteps_are_the_configured_ones(weights, shared_noise, monkeypatch):
    seen = []

    def q_sample(z, s, noise, alpha_bar):
        seen.append(s)
        return z

    monkeypatch.setattr(reconstruct.schedule, "q_sample", q_sample)
    config = small_config(condition="noisy", condition_timesteps=(400, 404))

    @jax.jit
    @jax.vmap
    def timesteps(key):  # the compiler leaves out all that they do not need
        reconstruct.reconstruct(
            weights, as_they_are(PHOTOS), key, config=config, num_steps=2, shared_noise=shared_noise
        )
        return seen.pop()

    drawn = np.asarray(timesteps(jax.random.split(KEY, 64)))
    assert drawn.shape == (64, len(PHOTOS))
    assert set(drawn.ravel()) == {400, 401, 402, 403}
    assert np.all(drawn == drawn[:, :1]) == shared_noise


def test_with_shared_noise_a_photos_result_does_not_depend_on_its_neighbours(weights):
    together = run(weights, condition="noisy")
    alone = run(weights, PHOTOS[1:2], condition="noisy")
    np.testing.assert_allclose(alone.reconstruction[0], together.reconstruction[1], atol=1e-5)
    np.testing.assert_allclose(alone.interpolated[0], together.interpolated[1], atol=1e-5)


def test_noise_is_drawn_for_each_photo_where_it_is_not_shared(weights):
    same = jnp.repeat(PHOTOS[:1], 3, axis=0)
    shared, apart = (run(weights, same, shared_noise=s).reconstruction for s in (True, False))
    np.testing.assert_allclose(shared[0], shared[1], atol=1e-6)
    assert np.abs(apart[0] - apart[1]).max() > 1e-2


def test_another_key_gives_another_reconstruction(weights):
    first, second = (run(weights, key=jax.random.key(k)).reconstruction for k in (0, 1))
    assert np.abs(first - second).max() > 1e-2


def test_interpolation_goes_from_the_reconstruction_to_the_autoencoders_copy(weights):
    result = run(weights, interpolation=(0.0, 0.5, 1.0))
    assert result.interpolated.shape == (3, 3, 16, 16, 3)
    copy = jax.jit(networks.autoencoder(small_config()).apply)(weights["autoencoder"], PHOTOS)
    np.testing.assert_allclose(
        result.interpolated[:, 2], jnp.clip(copy, 0.0, 1.0), rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(result.interpolated[:, 0], result.reconstruction, rtol=0, atol=1e-6)
    for end in (0, 2):
        assert np.abs(result.interpolated[:, 1] - result.interpolated[:, end]).max() > 1e-2


@pytest.mark.parametrize(("interpolation", "channels"), [((), 6), ((0.5,), 9), ((0.3, 0.7), 12)])
def test_the_segmenter_sees_a_picture_for_each_interpolation(weights, interpolation, channels):
    config = small_config(interpolation=interpolation)
    fn = functools.partial(reconstruct.reconstruct, config=config, num_steps=2)
    result = jax.eval_shape(fn, weights, as_they_are(PHOTOS), KEY)
    assert result.interpolated.shape == (3, len(interpolation), 16, 16, 3)
    init = functools.partial(segmentation.init_state, config)
    state = jax.eval_shape(init, KEY, {}, {})
    assert state.params["down_0"]["conv_0"]["kernel"].shape[2] == channels


@pytest.mark.parametrize("interpolation", [(), (0.5,), (0.3, 0.7)])
def test_the_decoder_runs_once(weights, interpolation):
    decoded = []

    def count(next_function, args, kwargs, context):
        if isinstance(context.module, Decoder) and context.method_name == "__call__":
            decoded.append(args[0].shape[0])
        return next_function(*args, **kwargs)

    fn = functools.partial(
        reconstruct.reconstruct, config=small_config(interpolation=interpolation), num_steps=2
    )
    with nn.intercept_methods(count):
        jax.eval_shape(fn, weights, as_they_are(PHOTOS), KEY)
    assert decoded == [len(PHOTOS) * (1 + len(interpolation))]


def test_without_a_condition_it_starts_at_the_photos_own_noised_latent(weights):
    config = ml_collections.ConfigDict(small_config(start_timestep=0))
    config.diffusion.condition_noise = "hidden"
    config = ml_collections.FrozenConfigDict(config)
    latent = reconstruct.encode(weights, as_they_are(PHOTOS), config=config)
    denoise = functools.partial(reconstruct.denoise, weights, key=KEY, config=config, num_steps=1)
    # From timestep 0 to ᾱ_0: nothing is left to do, so what began comes back.
    signal = np.sqrt(reconstruct.noise_schedule(config)[0])
    began = (denoise(latent) - denoise(0.0 * latent)) / signal
    np.testing.assert_allclose(began, latent, rtol=1e-4, atol=1e-4)
    assert not np.allclose(denoise(latent), latent, atol=1e-3)


def test_without_a_condition_the_noise_is_that_of_the_first_step_that_is_visited(weights):
    """Leading spacing of 2 steps below 501 begins at 251: a latent noised to 500 is no such one."""
    config = ml_collections.ConfigDict(small_config(start_timestep=500, spacing="leading"))
    config.diffusion.condition_noise = "hidden"
    config.diffusion.prediction = "epsilon"
    config = ml_collections.FrozenConfigDict(config)
    latent = reconstruct.encode(weights, as_they_are(PHOTOS), config=config)
    silent = weights | {"denoiser": jax.tree.map(jnp.zeros_like, weights["denoiser"])}
    silent["denoiser"]["scale"] = weights["denoiser"]["scale"]
    denoise = functools.partial(reconstruct.denoise, silent, key=KEY, config=config, num_steps=2)
    # A denoiser that finds no noise multiplies what began by one number.
    alpha_bar = reconstruct.noise_schedule(config)
    began = (denoise(latent) - denoise(0.0 * latent)) / np.sqrt(alpha_bar[0])
    np.testing.assert_allclose(began, latent, rtol=1e-4, atol=1e-4)


def test_pictures_are_clipped_only_where_the_config_says_so(weights):
    free, clipped = (run(weights, clip=clip) for clip in (False, True))
    assert free.reconstruction.max() > 1.0 or free.reconstruction.min() < 0.0
    for name in ("reconstruction", "interpolated"):
        expected = np.clip(getattr(free, name), 0.0, 1.0)
        np.testing.assert_allclose(getattr(clipped, name), expected, atol=1e-6)
