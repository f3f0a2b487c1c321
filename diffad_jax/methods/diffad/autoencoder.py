"""Stage 1: the KL autoencoder E, D learns to copy photos through a small latent."""

import functools
import logging
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from diffad_jax.config.common import BY_STEPS
from diffad_jax.methods import losses, train_state, validation
from diffad_jax.methods.contract import Pretrained, Stage
from diffad_jax.methods.diffad import adversary, fields, networks, windows
from diffad_jax.methods.train_state import Params, TrainState, Weights
from diffad_jax.models.autoencoder import begin_as_principal_components
from diffad_jax.models.published import PUBLISHED
from diffad_jax.types import Batch, Images, Validation, to_float

logger = logging.getLogger(__name__)
NAME = "autoencoder"
Config = ml_collections.FrozenConfigDict


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """The optimiser of the autoencoder and, with its own state, of the discriminator."""
    c = config.autoencoder
    adam = functools.partial(optax.adam, b1=c.betas[0], b2=c.betas[1])
    return train_state.optimizer(c, config.training.gradient_clip, adam)


def init_state(config: Config, key: jax.Array, earlier_weights: Weights, batch: Batch):
    init_key, adversary_key, run_key = jax.random.split(key, 3)
    image = jnp.zeros((1, *networks.seen_size(config), 3))
    model = networks.autoencoder(config)
    weights = model.init(init_key, image)["params"]
    if config.autoencoder.linear_skip:
        photos = _exposed(earlier_weights, batch, init_key, config)
        weights = begin_as_principal_components(weights, photos, model)
    params = {"autoencoder": weights}
    variables = {}
    if config.autoencoder.adversarial_weight:
        discriminator = networks.discriminator(config).init(adversary_key, image, train=False)
        params["discriminator"] = discriminator["params"]
        variables["batch_stats"] = discriminator["batch_stats"]
    optimizer = make_optimizer(config)
    opt_state = {name: optimizer.init(p) for name, p in params.items()}
    return train_state.create(params, opt_state, run_key, variables=variables)


def train_step(state: TrainState, earlier_weights: Weights, batch: Batch, *, config: Config):
    """One update of the autoencoder, then one of the discriminator on its new copies.

    L = ‖x − x̂‖₁ + w_p n d(x, x̂) + w_KL KL(q(z|x) ‖ N(0, I)) + w_a a L_G, sums over n = h · w · 3
    values: d the perceptual distance, L_G and a the adversarial term and its adaptive weight (see
    ``adversary``), x̂ = D(z), z ~ q(z|x).

    Args:
      state: the stage's state; its ``params`` are those of the autoencoder and, with an adversarial
        term, of the discriminator.
      earlier_weights: those of the stage ``light``, if there is one, and of the ``perceptual``
        network, where its term is on.
      batch: see ``types.Batch``; ``config.autoencoder.input`` names the image that is copied.
      config: static.

    Returns:
      The next state and scalar metrics.
    """
    c = config.autoencoder
    step_key = train_state.step_key(state)
    image = _exposed(earlier_weights, batch, step_key, config)
    key, key_again = jax.random.split(step_key)

    def reconstruction_loss(copy):
        distance = losses.l1(image, copy)
        if "perceptual" in earlier_weights:
            network = networks.perceptual(config)
            perceived = network.apply({"params": earlier_weights["perceptual"]}, copy, image)
            distance += c.perceptual_weight * image[0].size * perceived
        return jnp.mean(distance)

    (copy, kl), vjp = jax.vjp(
        lambda params: _copy(params, image, key, config), state.params["autoencoder"]
    )
    unlike, slope = jax.value_and_grad(reconstruction_loss)(copy)
    metrics = {
        "loss": unlike + c.kl_weight * kl,
        "l1": jnp.mean(jnp.abs(image - copy)),
        "kl": kl / math.prod(networks.latent_shape(config)),
    }
    if c.adversarial_weight:
        slope, more = adversary.add_term(state, copy, slope, vjp, config)
        metrics |= more
    (gradients,) = vjp((slope, jnp.float32(c.kl_weight)))
    optimizer = make_optimizer(config)
    state = train_state.apply_to(state, "autoencoder", gradients, optimizer)
    metrics["gradient_norm"] = optax.tree.norm(gradients)

    if c.adversarial_weight:
        made_anew, _ = _copy(state.params["autoencoder"], image, key_again, config)
        state, more = adversary.update(state, image, made_anew, optimizer, config)
        metrics |= more
    return state.replace(step=state.step + 1), metrics


def _exposed(earlier_weights: Weights, batch: Batch, key: jax.Array, config: Config) -> Images:
    """The image that is copied, times its gain."""
    name = config.autoencoder.input
    batch, gain = windows.drawn(earlier_weights, batch, name, key, config=config)
    return gain * to_float(batch[name])


def _copy(params: Params, image: jax.Array, key: jax.Array, config: Config):
    """D(z), z ~ q(z|x), as in training; and the mean over the batch of KL(q(z|x) ‖ N(0, I))."""
    model = networks.autoencoder(config)
    sample_key, encoder_key, decoder_key = jax.random.split(key, 3)

    def apply(x, method, dropout_key):
        return model.apply(
            {"params": params},
            x,
            method=method,
            deterministic=False,
            rngs={"dropout": dropout_key},
        )

    mean, logvar = apply(image, "encode", encoder_key)
    z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(sample_key, mean.shape)
    return apply(z, "decode", decoder_key), jnp.mean(losses.kl(mean, logvar))


def weights(state: TrainState) -> Params:
    """The weights that later stages and the detector need."""
    return {"params": state.params["autoencoder"]}


def its_networks(config: Config) -> dict[str, nn.Module]:
    """See ``contract.Stage``."""
    found: dict[str, nn.Module] = {NAME: networks.autoencoder(config)}
    if config.autoencoder.adversarial_weight:
        found["discriminator"] = networks.discriminator(config)
    return found


def state_from_weights(state: TrainState, trained: Weights) -> TrainState:
    """See ``contract.Stage``: ``autoencoder``, and ``discriminator`` where it was trained."""
    params = state.params | {"autoencoder": trained["autoencoder"]["params"]}
    if gan := trained.get("discriminator"):
        params |= {"discriminator": gan["params"]}
        state = state.replace(variables={"batch_stats": gan["batch_stats"]})
    return state.replace(params=params)


def pretrained(config: Config) -> Pretrained | None:
    """See ``contract.Stage``: the network of the perceptual term."""
    c = config.autoencoder
    if c.perceptual == "none":
        return None
    if not c.perceptual_file:
        logger.warning(
            "the perceptual term of stage 1 is off: config.autoencoder.perceptual_file names no "
            "weights of VGG16, perceptual_heads no heads of LPIPS"
        )
        return None
    network, fields = networks.perceptual(config), ("autoencoder.perceptual_file",)
    if c.perceptual == "inception":
        return Pretrained("perceptual", fields, network)
    fields, published = (*fields, "autoencoder.perceptual_heads"), ("vgg16", "lpips")
    return Pretrained(
        "perceptual", fields, network, published=tuple(PUBLISHED[name] for name in published)
    )


def validate(weights: Weights, batch: Batch, *, config: Config) -> Validation:
    """PSNR in dB of D(mode of E(x)) on held-out photos, normal and with synthetic anomalies."""
    model = networks.autoencoder(config)

    def copied(name):
        key = jax.random.key(config.seed)
        seen, gain = windows.drawn(weights, batch, name, key, config=config)
        image = to_float(seen[name])
        mean, _ = model.apply(weights[NAME], gain * image, method="encode")
        copy = model.apply(weights[NAME], mean, method="decode") / gain
        return image, jnp.clip(copy, 0.0, 1.0)

    image, copy = copied("image")
    augmented, augmented_copy = copied("augmented_image")
    return Validation(
        metrics={
            "psnr_normal_db": validation.psnr(image, copy),
            "psnr_augmented_db": validation.psnr(augmented, augmented_copy),
        },
        pictures={
            "normal photo": image,
            "normal photo, copied": copy,
            "augmented photo": augmented,
            "augmented photo, copied": augmented_copy,
        },
    )


STAGE = Stage(
    name=NAME,
    sections=(*BY_STEPS, fields.AUTOENCODER),
    pretrained=pretrained,
    section="autoencoder",
    init_state=init_state,
    train_step=train_step,
    weights=weights,
    networks=its_networks,
    state_from_weights=state_from_weights,
    validate=validate,
    best_by="psnr_normal_db",
)
