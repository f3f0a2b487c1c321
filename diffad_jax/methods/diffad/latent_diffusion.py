"""Stage 2: the denoiser ε_θ learns normal latents from noisy, perhaps defective conditions."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from diffad_jax.config.common import BY_STEPS
from diffad_jax.methods import losses, train_state, validation
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.diffad import conditions, fields, networks, schedule, windows
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.methods.diffad.reconstruct import noise_schedule, reconstruct
from diffad_jax.methods.train_state import Params, TrainState, Weights
from diffad_jax.types import Batch, Validation, to_float

NAME = "denoiser"
Config = ml_collections.FrozenConfigDict


def make_optimizer(config: Config) -> optax.GradientTransformation:
    c = config.diffusion
    adamw = functools.partial(optax.adamw, weight_decay=c.weight_decay)
    return train_state.optimizer(c, config.training.gradient_clip, adamw)


def init_state(config: Config, key: jax.Array, earlier_weights: Weights, batch: Batch):
    """A fresh state; ``batch`` gives the latent scale where the config asks for a measured one."""
    init_key, run_key = jax.random.split(key)
    height, width, channels = networks.latent_shape(config)
    inputs = jnp.zeros((1, height, width, 2 * channels))
    label = batch["label"][:1] if "label" in batch else None
    t = jnp.zeros((1,), jnp.int32)
    params = networks.denoiser(config).init(init_key, inputs, t, label)["params"]
    scale = jnp.asarray(config.diffusion.latent_scale, jnp.float32)
    if not config.diffusion.latent_scale:
        batch, gain = windows.drawn(
            earlier_weights, batch, "augmented_image", init_key, config=config
        )
        mean, _ = _encode(config, earlier_weights, gain * to_float(batch["image"]))
        scale = 1.0 / jnp.std(mean)
    # A copy, because the training step donates each buffer of its input once.
    average = jax.tree.map(jnp.copy, params)
    opt_state = make_optimizer(config).init(params)
    return train_state.create(
        params, opt_state, run_key, ema_params=average, variables={"scale": scale}
    )


def train_step(state: TrainState, earlier_weights: Weights, batch: Batch, *, config: Config):
    """One step of L_LDM = ‖ε − ε_θ(z_t, t, c_s)‖² with noisy condition embedding.

    ``config.diffusion.prediction = "v"`` has the denoiser predict v in place of ε.

    z ~ q(z|x) is sampled, the condition c is the mode of q(z|x_a), noised to c_s (see
    ``conditions``); t is uniform on ``trained_timesteps``, s on ``condition_timesteps``. Errors
    count ``anomaly_weight`` times where the example is anomalous (1 as published): there the
    condition is no answer.

    Returns:
      The next state and scalar metrics.
    """
    c = config.diffusion
    key = train_state.step_key(state)
    keys = jax.random.split(key, 5)
    batch, gain = windows.drawn(earlier_weights, batch, "augmented_image", key, config=config)
    scale = state.variables["scale"]
    mean, logvar = _encode(config, earlier_weights, gain * to_float(batch["image"]))
    z = scale * (mean + jnp.exp(0.5 * logvar) * jax.random.normal(keys[0], mean.shape))
    condition = gain * to_float(batch["augmented_image"])
    condition = scale * _encode(config, earlier_weights, condition)[0]

    alpha_bar = noise_schedule(config)
    t = jax.random.randint(keys[1], z.shape[:1], *c.trained_timesteps)
    noise = jax.random.normal(keys[2], z.shape)
    z_t = schedule.q_sample(z, t, noise, alpha_bar)
    condition = conditions.in_training(condition, t, keys[3], keys[4], alpha_bar, config=config)

    target = schedule.target(c.prediction, z, t, noise, alpha_bar)
    weight = 1.0 + (c.anomaly_weight - 1.0) * _share_of_anomaly(batch["anomaly_mask"], z.shape)

    def loss_fn(params):
        inputs = jnp.concatenate([z_t, condition], axis=-1)
        output = networks.denoiser(config).apply({"params": params}, inputs, t, batch.get("label"))
        return jnp.mean(losses.squared_error(target, output, weight))

    loss, gradients = jax.value_and_grad(loss_fn)(state.params)
    state = train_state.apply_gradients(state, gradients, make_optimizer(config))
    metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
    return state.replace(ema_params=train_state.ema(state, c.ema_decay)), metrics


def weights(state: TrainState) -> Params:
    """The averaged weights and the latent scale."""
    return {"params": state.ema_params, "scale": state.variables["scale"]}


def state_from_weights(state: TrainState, trained: Weights) -> TrainState:
    """See ``contract.Stage``: ``denoiser``, ``average``, and the latent's ``scale``."""
    return state.replace(
        params=trained["denoiser"]["params"],
        ema_params=trained["average"]["params"],
        variables={"scale": jnp.asarray(trained["scale"], jnp.float32)},
    )


def validate(weights: Weights, batch: Batch, *, config: Config) -> Validation:
    """Metrics of reconstructions of held-out synthetic anomalies, and the loss by timestep.

    ``repaired_…`` is the PSNR in dB against the defect-free photo, inside and outside the mask.
    ``damaged_…`` is that of the augmented photo itself. ``loss_t…`` is the mean over a fifth of the
    timesteps, with the condition at the same noise level where training noises it.
    """
    key = jax.random.key(config.seed)
    batch, gain = windows.drawn(weights, batch, "augmented_image", key, config=config)
    image, augmented = to_float(batch["image"]), to_float(batch["augmented_image"])
    mask = to_float(batch["anomaly_mask"]) * 255.0
    photo = Exposed(augmented, gain)
    result = reconstruct(
        weights, photo, key, config=config, num_steps=config.reconstruction.test_steps,
        label=batch.get("label"),
    )  # fmt: skip

    metrics = {
        "damaged_inside_db": validation.psnr(augmented, image, mask),
        "repaired_inside_db": validation.psnr(result.reconstruction, image, mask),
        "repaired_outside_db": validation.psnr(result.reconstruction, image, 1.0 - mask),
    }
    scale = weights[NAME]["scale"]
    z = scale * _encode(config, weights, gain * image)[0]
    condition = scale * _encode(config, weights, photo.seen)[0]
    alpha_bar = noise_schedule(config)
    for i, t in enumerate(np.linspace(0.1, 0.9, 5) * config.diffusion.timesteps):
        noise_key, condition_key = jax.random.split(jax.random.fold_in(key, i))
        steps = jnp.full(z.shape[:1], int(t), jnp.int32)
        noise = jax.random.normal(noise_key, z.shape)
        z_t = schedule.q_sample(z, steps, noise, alpha_bar)
        c_t = conditions.at_timestep(condition, steps, condition_key, alpha_bar, config=config)
        output = networks.denoiser(config).apply(
            {"params": weights[NAME]["params"]}, jnp.concatenate([z_t, c_t], axis=-1), steps,
            batch.get("label"),
        )  # fmt: skip
        target = schedule.target(config.diffusion.prediction, z, steps, noise, alpha_bar)
        metrics[f"loss_t{int(t)}"] = jnp.mean(losses.squared_error(target, output))
    pictures = {
        "augmented photo": augmented,
        "reconstruction": result.reconstruction,
        "normal photo": image,
    }
    return Validation(metrics, pictures)


def _share_of_anomaly(mask: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The anomalous share of each position's patch: [b, H, W, 1] in {0, 1} -> [b, h, w, 1]."""
    batch, height, width, _ = shape
    patches = mask.reshape(batch, height, mask.shape[1] // height, width, -1)
    return jnp.mean(patches.astype(jnp.float32), axis=(2, 4))[..., None]


def _encode(config: Config, earlier_weights: Weights, seen: jax.Array):
    """Mean and log variance of z, in the augmented photo's light, the only one known at test."""
    return networks.autoencoder(config).apply(earlier_weights["autoencoder"], seen, method="encode")


STAGE = Stage(
    name=NAME,
    sections=(*BY_STEPS, fields.AUTOENCODER, fields.DIFFUSION),
    section="diffusion",
    init_state=init_state,
    train_step=train_step,
    weights=weights,
    networks=lambda config: {NAME: networks.denoiser(config)},
    state_from_weights=state_from_weights,
    validate=validate,
    best_by="repaired_inside_db",
)
