"""A photo's defect-free version by E, ε_θ and D, the only link from stages 1 and 2 onward."""

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Float, Float32

from diffad_jax.methods.diffad import conditions, ddim, networks, schedule
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.methods.diffad.schedule import AlphaBar
from diffad_jax.types import Array, FeatureMaps

Config = ml_collections.FrozenConfigDict


@flax.struct.dataclass
class Reconstruction:
    """In [0, 1] where ``config.reconstruction.clip`` is set, else as decoded."""

    reconstruction: Float32[Array, "b h w 3"]  # x_r = D(z_r)
    interpolated: Float32[Array, "b k h w 3"]  # x_inter = D(λ c + (1 − λ) z_r) for each of k λ


def noise_schedule(config: Config) -> AlphaBar:
    c = config.diffusion
    return schedule.alpha_bar(c.timesteps, c.beta_start, c.beta_end)


def reconstruct(
    weights: dict, photo: Exposed, key: jax.Array, *, config: Config, num_steps: int,
    shared_noise: bool = True, label: jax.Array | None = None,
) -> Reconstruction:  # fmt: skip
    """Samples a normal latent given the photo's own latent as condition, and decodes it.

    Args:
      weights: of the stages ``autoencoder`` and ``denoiser``.
      photo: whole, or a window.
      key: for the starting noise and the condition's.
      config: static.
      num_steps: DDIM steps.
      shared_noise: whether all photos get the same noise, so that a photo's result does not depend
        on its neighbours in the batch; training draws noise for each photo.
      label: of each photo's category, for a denoiser that learns them, see ``types.Batch``.

    Returns:
      x_r and x_inter.
    """
    latent = encode(weights, photo, config=config)
    z_r = denoise(
        weights, latent, key, config=config, num_steps=num_steps, shared_noise=shared_noise,
        label=label,
    )  # fmt: skip
    return decode(weights, latent, z_r, photo.gain, config=config)


def encode(weights: dict, photo: Exposed, *, config: Config) -> Float[Array, "b _ _ c"]:
    """The photo's latent c, the scaled mode of the posterior."""
    mode, _ = networks.autoencoder(config).apply(
        weights["autoencoder"], photo.seen, method="encode"
    )
    return weights["denoiser"]["scale"] * mode


def denoise(
    weights: dict, latent: FeatureMaps, key: jax.Array, *, config: Config, num_steps: int,
    shared_noise: bool = True, label: jax.Array | None = None,
) -> FeatureMaps:  # fmt: skip
    """A normal latent z_r by DDIM; ``latent`` is the condition.

    ``config.reconstruction.condition = "noisy"`` hides the condition in noise of a timestep drawn
    from ``condition_timesteps``, as in training. Arguments as for ``reconstruct``.
    """
    denoiser, alpha_bar = networks.denoiser(config), noise_schedule(config)
    c = config.reconstruction
    noise_key, timestep_key, condition_key = jax.random.split(key, 3)
    drawn = 1 if shared_noise else latent.shape[0]

    def normal(key):
        return jnp.broadcast_to(jax.random.normal(key, (drawn, *latent.shape[1:])), latent.shape)

    start, condition = normal(noise_key), latent
    if c.condition == "noisy":
        s = jax.random.randint(timestep_key, (drawn,), *c.condition_timesteps)
        s = jnp.broadcast_to(s, latent.shape[:1])
        condition = schedule.q_sample(latent, s, normal(condition_key), alpha_bar)
    visited = ddim.sampling_timesteps(conditions.sampled_timesteps(config), num_steps, c.spacing)
    condition, start = conditions.at_test(
        latent, condition, start, visited[0], alpha_bar, config=config
    )

    def predict_noise(z_t, t):
        inputs = jnp.concatenate([z_t, condition], axis=-1)
        output = denoiser.apply({"params": weights["denoiser"]["params"]}, inputs, t, label)
        return schedule.predicted_noise(config.diffusion.prediction, output, z_t, t, alpha_bar)

    return ddim.ddim_sample(predict_noise, start, visited, alpha_bar)


def decode(
    weights: dict, latent: FeatureMaps, z_r: FeatureMaps, gain: Float[Array, "b 1 1 1"],
    *, config: Config,
) -> Reconstruction:  # fmt: skip
    """x_r = D(z_r) and x_inter = D(λ c + (1 − λ) z_r) in the photo's light.

    Args:
      weights: of the stages ``autoencoder`` and ``denoiser``.
      latent: by ``encode``.
      z_r: by ``denoise``.
      gain: of ``brightness.Exposed``.
      config: static.
    """
    weights_of_c = config.reconstruction.interpolation
    mixed = [weight * latent + (1.0 - weight) * z_r for weight in weights_of_c]
    # One call for all, because the decoder is the most expensive network.
    latents = jnp.concatenate([z_r, *mixed]) / weights["denoiser"]["scale"]
    decoded = networks.autoencoder(config).apply(weights["autoencoder"], latents, method="decode")
    decoded = decoded.reshape(1 + len(mixed), *z_r.shape[:1], *decoded.shape[1:])
    decoded = decoded / gain[None]
    if config.reconstruction.clip:
        decoded = jnp.clip(decoded, 0.0, 1.0)
    return Reconstruction(reconstruction=decoded[0], interpolated=jnp.moveaxis(decoded[1:], 0, 1))
