"""Deterministic sampling in few steps (DDIM, Song et al. 2021, η = 0)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int, Int32

from diffad_jax.methods.diffad.schedule import AlphaBar, Timesteps
from diffad_jax.types import FeatureMaps


def sampling_timesteps(
    timesteps: int, num_steps: int, spacing: str
) -> Int32[np.ndarray, " {num_steps}"]:
    """The timesteps that the sampler visits, falling.

    Args:
      timesteps: length of the training schedule.
      num_steps: the number of timesteps to visit, 1 … timesteps.
      spacing: ``leading`` is the published spacing, i · (timesteps // num_steps) + 1, which starts
        well below the noisiest step when there are few; ``trailing`` starts at timesteps − 1
        (Lin et al. 2024).
    """
    if not 1 <= num_steps <= timesteps:
        raise ValueError(f"num_steps must lie in 1 … {timesteps}, got {num_steps}")
    if spacing == "leading":
        visited = np.arange(num_steps) * (timesteps // num_steps)
        # At num_steps = timesteps the published + 1 would run past the end.
        return (visited + (num_steps < timesteps))[::-1].astype(np.int32)
    if spacing == "trailing":
        return np.round(timesteps - np.arange(num_steps) * timesteps / num_steps).astype(
            np.int32
        ) - np.int32(1)
    raise ValueError(f"spacing must be leading or trailing, got {spacing!r}")


def ddim_sample(
    predict_noise: Callable[[FeatureMaps, Timesteps], FeatureMaps],
    z: FeatureMaps,
    visited: Int[np.ndarray, " s"],
    alpha_bar: AlphaBar,
) -> Float32[jax.Array, "b h w c"]:
    """Runs DDIM from noise to a clean latent.

    Args:
      predict_noise: (z_t, t) -> ε.
      z: pure noise.
      visited: falling timesteps, from ``sampling_timesteps``.
      alpha_bar: of training.

    Returns:
      The latent. The last step goes to ᾱ_0 (0.9985 with the published schedule), not to 1, as
      published.
    """
    now = alpha_bar[visited]
    after = np.append(now[1:], alpha_bar[0])
    coefficients = np.stack(
        [np.sqrt(now), np.sqrt(1 - now), np.sqrt(after), np.sqrt(1 - after)], axis=1
    )

    def step(z_t, inputs):
        t, (signal, sigma, signal_after, sigma_after) = inputs
        noise = predict_noise(z_t, jnp.full(z_t.shape[:1], t))
        z_0 = (z_t - sigma * noise) / signal
        return signal_after * z_0 + sigma_after * noise, None

    inputs = (jnp.asarray(visited), tuple(jnp.asarray(coefficients.T, jnp.float32)))
    z, _ = jax.lax.scan(step, z, inputs)
    return z
