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
    signal = jnp.asarray(np.sqrt(alpha_bar), jnp.float32)[t][:, None, None, None]
    sigma = jnp.asarray(np.sqrt(1.0 - alpha_bar), jnp.float32)[t][:, None, None, None]
    return signal * z + sigma * noise
