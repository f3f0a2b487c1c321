"""The forward process q(z_t | z_0) and its noise schedule (DDPM, Ho et al. 2020)."""

import jax
import jax.numpy as jnp
import numpy as np


def alpha_bar(timesteps: int, beta_start: float, beta_end: float) -> np.ndarray:
    """ᾱ_t = ∏ (1 − β_s), [timesteps] float64, falling.

    "Linear" in the sense of latent diffusion: √β rises linearly from √beta_start to √beta_end.
    """
    beta = np.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=np.float64) ** 2
    return np.cumprod(1.0 - beta)


def q_sample(z: jax.Array, t: jax.Array, noise: jax.Array, alpha_bar: np.ndarray) -> jax.Array:
    """z_t = √ᾱ_t z + √(1 − ᾱ_t) ε.

    Args:
      z: [b, h, w, c], the clean latent.
      t: [b] int32 in [0, len(alpha_bar)).
      noise: [b, h, w, c], ε ~ N(0, I).
      alpha_bar: [timesteps] float64; the roots are taken before rounding to float32.
    """
    signal, sigma = _levels(t, alpha_bar)
    return signal * z + sigma * noise


def target(
    prediction: str, z: jax.Array, t: jax.Array, noise: jax.Array, alpha_bar: np.ndarray
) -> jax.Array:
    """The denoiser's target: ε, or v = √ᾱ_t ε − √(1 − ᾱ_t) z (Salimans & Ho 2022).

    At the noisiest step an error of ε becomes 92 times as large in the clean latent (published
    schedule), and a sampler of few steps cannot correct it. An error of v is not magnified.

    Args:
      prediction: ``epsilon`` (published) or ``v``.
      z, t, noise, alpha_bar: as for ``q_sample``.
    """
    if prediction == "epsilon":
        return noise
    signal, sigma = _levels(t, alpha_bar)
    return signal * noise - sigma * z


def predicted_noise(
    prediction: str, output: jax.Array, z_t: jax.Array, t: jax.Array, alpha_bar: np.ndarray
) -> jax.Array:
    """ε from the denoiser's output at z_t; arguments as for ``target``."""
    if prediction == "epsilon":
        return output
    signal, sigma = _levels(t, alpha_bar)
    return signal * output + sigma * z_t


def _levels(t: jax.Array, alpha_bar: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """√ᾱ_t and √(1 − ᾱ_t), [b, 1, 1, 1] each."""
    signal = jnp.asarray(np.sqrt(alpha_bar), jnp.float32)[t][:, None, None, None]
    sigma = jnp.asarray(np.sqrt(1.0 - alpha_bar), jnp.float32)[t][:, None, None, None]
    return signal, sigma
