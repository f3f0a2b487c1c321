"""The state of a stage from step to step, and its optimisers."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import optax
from jaxtyping import Int32, UInt32

from diffad_jax.types import Array

Params = Any  # a nested dict of arrays
# By name: weights of earlier stages, and of the pretrained network that a stage learns with.
Weights = dict[str, Params]


@flax.struct.dataclass
class TrainState:
    """Everything that a checkpoint needs, so that training goes on as if never stopped."""

    step: Int32[Array, ""]  # batches seen
    key: UInt32[Array, "2"]  # key data; each step draws from fold_in(key, step)
    params: Params
    opt_state: optax.OptState
    ema_params: Params  # {} where the stage keeps no average
    variables: Params  # not trained by gradient: batch statistics, the latent scale


def create(
    params: Params,
    opt_state: optax.OptState,
    key: jax.Array,
    ema_params: Params | None = None,
    variables: Params | None = None,
) -> TrainState:
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(key),
        params=params,
        opt_state=opt_state,
        ema_params=ema_params if ema_params is not None else {},
        variables=variables if variables is not None else {},
    )


def step_key(state: TrainState) -> jax.Array:
    """The random key of the next step."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)


def apply_gradients(
    state: TrainState, gradients: Params, optimizer: optax.GradientTransformation
) -> TrainState:
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state)


def apply_to(
    state: TrainState, name: str, gradients: Params, optimizer: optax.GradientTransformation
) -> TrainState:
    """Updates one of several networks with its own optimiser state; does not count a step."""
    params, opt_state = state.params[name], state.opt_state[name]
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    params = optax.apply_updates(params, updates)
    return state.replace(
        params=state.params | {name: params}, opt_state=state.opt_state | {name: opt_state}
    )


def updates(opt_state: optax.OptState) -> Int32[Array, ""]:
    """The number of optimiser updates; accumulated batches are not counted apart."""
    if isinstance(opt_state, optax.MultiStepsState):
        return opt_state.gradient_step
    return optax.tree_utils.tree_get_all_with_path(opt_state, "count")[0][1]


def ema(state: TrainState, decay: float) -> Params:
    """Exponential moving average with warm-up: the decay is min(decay, (1 + n) / (10 + n)).

    n is ``updates``, with this step's update (LitEma of latent diffusion). While the optimiser
    gathers batches for an update, the average stays as it is.
    """
    n = updates(state.opt_state).astype(jnp.float32)
    kept = jnp.minimum(decay, (1.0 + n) / (10.0 + n))
    if isinstance(state.opt_state, optax.MultiStepsState):
        kept = jnp.where(state.opt_state.mini_step == 0, kept, 1.0)
    return jax.tree.map(lambda a, p: kept * a + (1.0 - kept) * p, state.ema_params, state.params)


def learning_rate(stage: ml_collections.ConfigDict, updates: int | jax.Array) -> optax.Schedule:
    """Linear warm-up, then the stage's ``decay`` over ``updates`` optimiser steps.

    Raises:
      ValueError: ``decay`` is none of constant, cosine, steps, late.
    """
    rate, warmup = stage.learning_rate, stage.warmup_steps
    if stage.decay == "constant":
        after = optax.constant_schedule(rate)
    elif stage.decay == "cosine":
        after = _cosine(rate, jnp.maximum(updates - warmup, 1), last=0.01)
    elif stage.decay == "steps":
        after = _drops(rate, 0.2, updates * 4 // 5 - warmup, updates * 9 // 10 - warmup)
    elif stage.decay == "late":
        after = _drops(rate, 0.1, updates * 5 // 6 - warmup)
    else:
        raise ValueError(f"decay must be constant, cosine, steps or late, got {stage.decay!r}")
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])


# Optax's schedules take no arrays for their lengths, so each length would need a program.
def _cosine(rate: float, length: jax.Array, last: float) -> optax.Schedule:
    """A cosine from ``rate`` to ``last`` times as much."""

    def schedule(count: jax.Array) -> jax.Array:
        fallen = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(count, length) / length))
        return rate * ((1.0 - last) * fallen + last)

    return schedule


def _drops(rate: float, factor: float, *at: int | jax.Array) -> optax.Schedule:
    """``rate``, times ``factor`` from each of these steps on."""

    def schedule(count: jax.Array) -> jax.Array:
        found = jnp.float32(rate)
        for step in at:
            found = jnp.where(count < step, found, factor * found)
        return found

    return schedule


def optimizer(
    stage: ml_collections.ConfigDict,
    gradient_clip: float,
    make: Callable[[optax.Schedule], optax.GradientTransformation] = optax.adam,
) -> optax.GradientTransformation:
    """``make``'s optimiser at the stage's learning rate.

    Args:
      stage: the stage's section: steps, accumulation and what ``learning_rate`` reads.
      gradient_clip: the largest global norm of gradients; 0 leaves them alone.
      make: gives the optimiser of a schedule.

    Returns:
      An optimiser that updates by the mean gradient of each ``stage.accumulation`` batches.
    """
    found = make(learning_rate(stage, stage.steps // stage.accumulation))
    if gradient_clip:
        found = optax.chain(optax.clip_by_global_norm(gradient_clip), found)
    if stage.accumulation == 1:
        return found
    return optax.MultiSteps(found, stage.accumulation).gradient_transformation()


def of_variables(
    variables: Params, optimizer: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    """A fresh state of one network with batch statistics."""
    params, statistics = variables["params"], {"batch_stats": variables["batch_stats"]}
    return create(params, optimizer.init(params), key, variables=statistics)


def with_variables(state: TrainState, variables: Params) -> TrainState:
    """The state of one network with batch statistics, with other variables in place of its own."""
    statistics = {"batch_stats": variables["batch_stats"]}
    return state.replace(params=variables["params"], variables=statistics)
