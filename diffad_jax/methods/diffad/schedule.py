"""The forward process q(z_t | z_0) and its noise schedule (DDPM, Ho et al. 2020)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, Int

from diffad_jax.types import Array, FeatureMaps

AlphaBar = Float64[np.ndarray, " timesteps"]
Timesteps = Int[Array, " b"]  # below len(alpha_bar)


def alpha_bar(timesteps: int, beta_start: float, beta_end: float) -> AlphaBar:
    """ᾱ_t = ∏ (1 − β_s), falling.

    "Linear" in the sense of latent diffusion: √β rises linearly from √beta_start to √beta_end.
    """
    beta = np.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=np.float64) ** 2
    return np.cumprod(1.0 - beta)


def q_sample(z: FeatureMaps, t: Timesteps, noise: FeatureMaps, alpha_bar: AlphaBar) -> FeatureMaps:
    """z_t = √ᾱ_t z + √(1 − ᾱ_t) ε.

    ``z`` is the clean latent, ``noise`` ε ~ N(0, I). The roots of ᾱ_t are taken before rounding to
    float32.
    """
    signal, sigma = _levels(t, alpha_bar)
    return signal * z + sigma * noise


def target(
    prediction: str, z: FeatureMaps, t: Timesteps, noise: FeatureMaps, alpha_bar: AlphaBar
) -> FeatureMaps:
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
    prediction: str, output: FeatureMaps, z_t: FeatureMaps, t: Timesteps, alpha_bar: AlphaBar
) -> FeatureMaps:
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
