"""Stage 1's adversarial term: a PatchGAN tells photos from copies (Esser et al., CVPR 2021)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jaxtyping import Float

from diffad_jax.methods import losses, train_state
from diffad_jax.methods.diffad import networks
from diffad_jax.methods.train_state import Params, TrainState
from diffad_jax.types import Array, Images

Config = ml_collections.FrozenConfigDict
Metrics = dict[str, Float[Array, ""]]


def add_term(
    state: TrainState, copy: Images, slope: Images, vjp: Callable, config: Config
) -> tuple[Images, Metrics]:
    """Adds the gradient of w_a a L_G to that of the other terms, once the term has started.

    L_G = −mean D(x̂) and a = ‖∇L_rest‖ / (‖∇L_G‖ + 1e-4), at most 1e4, the gradients at the last
    kernel of the decoder (eq. 7 there).

    Args:
      state: before the step.
      copy: x̂.
      slope: ∂L_rest / ∂x̂.
      vjp: (∂/∂x̂, ∂/∂KL) -> gradients of the autoencoder's parameters.
      config: static.

    Returns:
      ∂L / ∂x̂ and scalar metrics; ``slope`` and zeros before the start.
    """

    def generator_loss(copy):
        logits, _ = _judge(state.params["discriminator"], state.variables, copy, config)
        return jnp.mean(losses.hinge_generator(logits))

    def last_kernel(slope):
        # The compiler drops the gradient from there to the encoder.
        return vjp((slope, jnp.float32(0.0)))[0]["decoder"]["conv_out"]["kernel"]

    def started():
        loss, generator_grad = jax.value_and_grad(generator_loss)(copy)
        adaptive = losses.adaptive_weight(last_kernel(slope), last_kernel(generator_grad))
        weight = config.autoencoder.adversarial_weight * adaptive
        return slope + weight * generator_grad, {"generator": loss, "adaptive_weight": adaptive}

    def not_yet():
        return slope, {"generator": jnp.float32(0.0), "adaptive_weight": jnp.float32(0.0)}

    return jax.lax.cond(_has_started(state, config), started, not_yet)


def update(
    state: TrainState,
    image: Images,
    copy: Images,
    optimizer: optax.GradientTransformation,
    config: Config,
) -> tuple[TrainState, Metrics]:
    """One step of the discriminator on photos and copies, each a batch to normalise by.

    Before the start its gradient is zero, as published: Adam counts those steps too.
    """

    def loss_fn(params):
        real, statistics = _judge(params, state.variables, image, config)
        fake, statistics = _judge(params, statistics, copy, config)
        return jnp.mean(losses.hinge_discriminator(real, fake)), statistics

    def started(params):
        (loss, statistics), gradients = jax.value_and_grad(loss_fn, has_aux=True)(params)
        return loss, statistics, gradients

    def not_yet(params):
        return jnp.float32(0.0), state.variables, jax.tree.map(jnp.zeros_like, params)

    loss, statistics, gradients = jax.lax.cond(
        _has_started(state, config), started, not_yet, state.params["discriminator"]
    )
    state = train_state.apply_to(state, "discriminator", gradients, optimizer)
    metrics = {"discriminator": loss, "discriminator_gradient_norm": optax.tree.norm(gradients)}
    return state.replace(variables=statistics), metrics


def _judge(
    params: Params, variables: Params, image: jax.Array, config: Config
) -> tuple[jax.Array, Params]:
    """Logits, and the batch statistics after them."""
    network = networks.discriminator(config)
    return network.apply({"params": params, **variables}, image, train=True, mutable="batch_stats")


def _has_started(state: TrainState, config: Config) -> jax.Array:
    """The discriminator's optimiser moves last in a step, so it knows what came before."""
    made = train_state.updates(state.opt_state["discriminator"])
    return made >= config.autoencoder.adversarial_start
