"""Stage 1: the KL autoencoder E, D learns to copy photos through a small latent."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import optax

from diffad_jax import losses, networks, train_state
from diffad_jax.train_state import Params, TrainState
from diffad_jax.types import Batch, to_float

NAME = "autoencoder"
Config = ml_collections.FrozenConfigDict


def settings(config: Config) -> ml_collections.FrozenConfigDict:
    return config.autoencoder


def make_optimizer(config: Config) -> optax.GradientTransformation:
    c = config.autoencoder
    rate = train_state.learning_rate(c, c.steps // c.accumulation)
    adam = train_state.clipped(optax.adam(rate, *c.betas), config.training.gradient_clip)
    if c.accumulation == 1:
        return adam
    return optax.MultiSteps(adam, c.accumulation).gradient_transformation()


def init_state(config: Config, key: jax.Array, frozen: dict[str, Params], batch: Batch):
    del frozen, batch  # the first stage stands on nothing
    init_key, run_key = jax.random.split(key)
    image = jnp.zeros((1, config.image_size, config.image_size, 3))
    params = networks.autoencoder(config).init(init_key, image)["params"]
    return train_state.create(params, make_optimizer(config), run_key)


def train_step(state: TrainState, frozen: dict[str, Params], batch: Batch, *, config: Config):
    """One step of L = ‖x − D(z)‖₁ + w KL(q(z|x) ‖ N(0, I)), z ~ q(z|x); sums over pixels.

    Args:
      state: the stage's state.
      frozen: unused; the weights of the stages before.
      batch: see ``types.Batch``; ``config.autoencoder.input`` names the image that is copied.
      config: static.

    Returns:
      The next state and scalar metrics.
    """
    del frozen
    model = networks.autoencoder(config)
    image = to_float(batch[config.autoencoder.input])
    sample_key, encoder_key, decoder_key = jax.random.split(train_state.step_key(state), 3)

    def loss_fn(params):
        apply = functools.partial(model.apply, {"params": params}, deterministic=False)
        mean, logvar = apply(image, method="encode", rngs={"dropout": encoder_key})
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(sample_key, mean.shape)
        reconstruction = apply(z, method="decode", rngs={"dropout": decoder_key})
        l1 = jnp.mean(losses.l1(image, reconstruction))
        kl = jnp.mean(losses.kl(mean, logvar))
        loss = l1 + config.autoencoder.kl_weight * kl
        return loss, {"l1": l1 / image[0].size, "kl": kl / mean[0].size}

    (loss, terms), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    metrics = {"loss": loss, **terms, "gradient_norm": optax.tree.norm(gradients)}
    return train_state.apply_gradients(state, gradients, make_optimizer(config)), metrics


def weights(state: TrainState) -> Params:
    """What later stages and the detector need."""
    return {"params": state.params}


def validate(weights: dict[str, Params], batch: Batch, *, config: Config) -> dict[str, jax.Array]:
    """PSNR in dB of D(mode of E(x)) on held-out photos, normal and with synthetic anomalies."""
    model = networks.autoencoder(config)

    def psnr(image):
        mean, _ = model.apply(weights[NAME], image, method="encode")
        copy = jnp.clip(model.apply(weights[NAME], mean, method="decode"), 0.0, 1.0)
        return -10.0 * jnp.log10(jnp.mean((image - copy) ** 2))

    return {
        "psnr_normal_db": psnr(to_float(batch["image"])),
        "psnr_augmented_db": psnr(to_float(batch["augmented_image"])),
    }
