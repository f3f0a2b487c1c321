"""The forward process and DDIM against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffad_jax.methods.diffad import ddim, schedule

ALPHA_BAR = schedule.alpha_bar(1000, 0.0015, 0.02)


def test_schedule_ends_where_the_published_one_does():
    # β_0 = 0.0015, so ᾱ_0 = 0.9985, where the published sampler stops.
    np.testing.assert_allclose(ALPHA_BAR[0], 0.9985, rtol=1e-12)
    beta = np.linspace(0.0015**0.5, 0.02**0.5, 1000) ** 2
    np.testing.assert_allclose(ALPHA_BAR, np.cumprod(1 - beta), rtol=1e-12)
    assert np.all(np.diff(ALPHA_BAR) < 0)


def test_the_noisiest_step_magnifies_an_error_as_often_as_is_said():
    factor = np.sqrt((1 - ALPHA_BAR[-1]) / ALPHA_BAR[-1])
    assert f"an error of ε becomes {factor:.0f} times as large" in " ".join(
        schedule.target.__doc__.split()
    )


def test_q_sample_follows_its_equation():
    rng = np.random.default_rng(0)
    z, noise = rng.normal(size=(2, 1000, 4, 4, 2)).astype(np.float32)
    t = np.arange(1000)
    a = ALPHA_BAR[t][:, None, None, None]
    want = np.sqrt(a) * z.astype(np.float64) + np.sqrt(1 - a) * noise.astype(np.float64)
    got = schedule.q_sample(z, jnp.asarray(t), noise, ALPHA_BAR)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "spacing", "want"),
    [
        (2, "leading", [501, 1]),
        (1, "leading", [1]),
        (4, "leading", [751, 501, 251, 1]),
        (1, "trailing", [999]),
        (2, "trailing", [999, 499]),
        (4, "trailing", [999, 749, 499, 249]),
    ],
)
def test_timesteps(steps, spacing, want):
    np.testing.assert_array_equal(ddim.sampling_timesteps(1000, steps, spacing), want)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 3, 7, 10, 50, 999, 1000])
def test_timesteps_are_distinct_and_in_range(steps, spacing):
    visited = ddim.sampling_timesteps(1000, steps, spacing)
    assert len(visited) == steps and visited.max() <= 999 and visited.min() >= 0
    assert np.all(np.diff(visited) < 0)


def test_timesteps_refuse_nonsense():
    with pytest.raises(ValueError, match="num_steps must lie in 1 … 1000, got 0"):
        ddim.sampling_timesteps(1000, 0, "leading")
    with pytest.raises(ValueError, match="spacing must be leading or trailing"):
        ddim.sampling_timesteps(1000, 5, "even")


def denoiser_of_gaussian(mean, variance):
    """The exact ε for data N(mean, variance): E[ε | z_t]."""

    def predict(z_t, t):
        a = jnp.asarray(ALPHA_BAR, jnp.float32)[t][:, None, None, None]
        total = a * variance + 1 - a
        return jnp.sqrt(1 - a) * (z_t - jnp.sqrt(a) * mean) / total

    return predict


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_point_mass_is_exact_at_any_number_of_steps(steps):
    noise = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    visited = ddim.sampling_timesteps(1000, steps, "trailing")
    z = ddim.ddim_sample(denoiser_of_gaussian(0.7, 0.0), noise, visited, ALPHA_BAR)
    # The sampler stops at ᾱ_0: the point, and the noise that is left there.
    want = np.sqrt(0.9985) * 0.7 + np.sqrt(0.0015) * (
        noise - np.sqrt(ALPHA_BAR[999]) * 0.7
    ) / np.sqrt(1 - ALPHA_BAR[999])
    np.testing.assert_allclose(z, want, atol=2e-4)


def test_gaussian_error_falls_with_the_number_of_steps():
    noise = jax.random.normal(jax.random.key(0), (64, 8, 8, 1))
    errors = []
    for steps in (2, 5, 20, 100):
        visited = ddim.sampling_timesteps(1000, steps, "trailing")
        z = ddim.ddim_sample(denoiser_of_gaussian(0.0, 0.25), noise, visited, ALPHA_BAR)
        errors.append(abs(float(jnp.std(z)) - 0.5))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02


def fixed_denoiser(np_like, z, t):
    """Of neighbours, channels and the timestep; by NumPy or by JAX."""
    around = np_like.roll(z, 1, axis=1) - 0.5 * np_like.roll(z, 2, axis=2)
    return 0.9 * np_like.tanh(z + 0.3 * around[..., ::-1]) + 0.1 * np_like.cos(0.01 * t)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [10, 50])
def test_equals_a_float64_loop(steps, spacing):
    noise = np.random.default_rng(1).normal(size=(2, 8, 8, 4)).astype(np.float32)
    visited = ddim.sampling_timesteps(1000, steps, spacing)

    def predict(z, t):
        return fixed_denoiser(jnp, z, t.astype(jnp.float32)[:, None, None, None])

    got = jax.jit(lambda z: ddim.ddim_sample(predict, z, visited, ALPHA_BAR))(noise)
    z = noise.astype(np.float64)
    for i, t in enumerate(visited):
        a = ALPHA_BAR[t]
        a_next = ALPHA_BAR[visited[i + 1]] if i + 1 < steps else ALPHA_BAR[0]
        eps = fixed_denoiser(np, z, float(t))
        z = np.sqrt(a_next) * (z - np.sqrt(1 - a) * eps) / np.sqrt(a) + np.sqrt(1 - a_next) * eps
    np.testing.assert_allclose(got, z, rtol=0, atol=1e-5 * np.abs(z).max())


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_the_noise_is_recovered_from_an_exact_prediction(prediction):
    rng = np.random.default_rng(0)
    z, noise = (jnp.float32(x) for x in rng.normal(size=(2, 3, 4, 4, 2)))
    t = jnp.array([0, 500, 999])
    output = schedule.target(prediction, z, t, noise, ALPHA_BAR)
    z_t = schedule.q_sample(z, t, noise, ALPHA_BAR)
    got = schedule.predicted_noise(prediction, output, z_t, t, ALPHA_BAR)
    np.testing.assert_allclose(got, noise, atol=1e-5)


def test_v_follows_its_equation():
    z, noise = jnp.full((1, 1, 1, 1), 2.0), jnp.full((1, 1, 1, 1), 3.0)
    got = schedule.target("v", z, jnp.array([700]), noise, ALPHA_BAR)
    want = np.sqrt(ALPHA_BAR[700]) * 3.0 - np.sqrt(1 - ALPHA_BAR[700]) * 2.0
    np.testing.assert_allclose(got.item(), want, rtol=1e-6)
