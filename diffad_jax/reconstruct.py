"""A photo's defect-free version: frozen E, ε_θ, D. The only bridge from stages 1 and 2 onward."""

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from diffad_jax import networks
from diffad_jax.diffusion import ddim, schedule

Config = ml_collections.FrozenConfigDict


@flax.struct.dataclass
class Reconstruction:
    """Both [b, h, w, 3] float32 in [0, 1]."""

    reconstruction: jax.Array  # x_r = D(z_r)
    interpolated: jax.Array  # x_inter = D(λ c + (1 − λ) z_r)


def noise_schedule(config: Config) -> np.ndarray:
    c = config.diffusion
    return schedule.alpha_bar(c.timesteps, c.beta_start, c.beta_end)


def reconstruct(
    weights: dict, image: jax.Array, key: jax.Array, *, config: Config, num_steps: int,
    shared_noise: bool = True,
) -> Reconstruction:  # fmt: skip
    """Samples a normal latent given the photo's clean latent as condition, and decodes it.

    Args:
      weights: of the stages ``autoencoder`` and ``denoiser``.
      image: [b, h, w, 3] float32 in [0, 1].
      key: for the starting noise.
      config: static.
      num_steps: DDIM steps.
      shared_noise: start all photos from the same noise, so that a photo's result does not depend
        on its neighbours in the batch; training draws one for each.

    Returns:
      x_r and x_inter, clipped to [0, 1].
    """
    autoencoder, denoiser = networks.autoencoder(config), networks.denoiser(config)
    scale, alpha_bar = weights["denoiser"]["scale"], noise_schedule(config)
    condition = scale * autoencoder.apply(weights["autoencoder"], image, method="encode")[0]

    def predict_noise(z_t, t):
        inputs = jnp.concatenate([z_t, condition], axis=-1)
        output = denoiser.apply({"params": weights["denoiser"]["params"]}, inputs, t)
        return schedule.predicted_noise(config.diffusion.prediction, output, z_t, t, alpha_bar)

    shape = (1, *condition.shape[1:]) if shared_noise else condition.shape
    noise = jnp.broadcast_to(jax.random.normal(key, shape), condition.shape)
    c = config.reconstruction
    visited = ddim.sampling_timesteps(config.diffusion.timesteps, num_steps, c.spacing)
    z_r = ddim.ddim_sample(predict_noise, noise, visited, alpha_bar)
    z_inter = c.interpolation * condition + (1.0 - c.interpolation) * z_r

    # One call for both: the decoder is the dearest network.
    latents = jnp.concatenate([z_r, z_inter]) / scale
    decoded = autoencoder.apply(weights["autoencoder"], latents, method="decode")
    x_r, x_inter = jnp.split(jnp.clip(decoded.astype(jnp.float32), 0.0, 1.0), 2)
    return Reconstruction(reconstruction=x_r, interpolated=x_inter)
