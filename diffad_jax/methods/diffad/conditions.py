"""The denoiser's condition, made from the photo's latent: as published, and as in ablations.

``config.diffusion.condition_noise`` noises the condition while the denoiser learns, to a timestep s
of its own (``independent``, the published code) or to s = t (``shared``, the poster's equation).
The paper's ablations leave it clean (``none``), or show nothing (``hidden``). Without a condition
sampling starts at the photo's own latent, noised to ``config.reconstruction.start_timestep`` (the
paper's "forward and reverse"), instead of pure noise.
"""

import jax
import jax.numpy as jnp
import ml_collections

from diffad_jax.methods.diffad import schedule
from diffad_jax.methods.diffad.schedule import AlphaBar, Timesteps
from diffad_jax.types import FeatureMaps

Config = ml_collections.FrozenConfigDict


def in_training(
    condition: FeatureMaps, t: Timesteps, timestep_key: jax.Array, noise_key: jax.Array,
    alpha_bar: AlphaBar, *, config: Config,
) -> FeatureMaps:  # fmt: skip
    """The condition beside z_t."""
    c, s = config.diffusion, t
    if c.condition_noise == "independent":
        s = jax.random.randint(timestep_key, t.shape, *c.condition_timesteps)
    return at_timestep(condition, s, noise_key, alpha_bar, config=config)


def at_timestep(
    condition: FeatureMaps, s: Timesteps, key: jax.Array, alpha_bar: AlphaBar, *, config: Config
) -> FeatureMaps:
    """The condition from a latent, noised to timesteps s where it is noised."""
    if config.diffusion.condition_noise == "hidden":
        return jnp.zeros_like(condition)
    if config.diffusion.condition_noise == "none":
        return condition
    noise = jax.random.normal(key, condition.shape)
    return schedule.q_sample(condition, s, noise, alpha_bar)


def sampled_timesteps(config: Config) -> int:
    """Sampling visits timesteps below this one."""
    if config.diffusion.condition_noise == "hidden":
        return config.reconstruction.start_timestep + 1
    return config.diffusion.timesteps


def at_test(
    latent: FeatureMaps, condition: FeatureMaps, noise: FeatureMaps, first: int,
    alpha_bar: AlphaBar, *, config: Config,
) -> tuple[FeatureMaps, FeatureMaps]:  # fmt: skip
    """The condition beside z_t, and the z_t at which sampling starts.

    Args:
      latent, condition, noise: the photo's latent, the condition that a denoiser sees, and pure
        noise.
      first: the timestep that sampling visits first.
      alpha_bar: of training.
      config: static.
    """
    if config.diffusion.condition_noise != "hidden":
        return condition, noise
    # Leading spacing begins below ``start_timestep``: as much noise as the sampler expects.
    t = jnp.full(latent.shape[:1], first)
    return jnp.zeros_like(latent), schedule.q_sample(latent, t, noise, alpha_bar)
