"""The one loop that trains any stage: resumes, logs, saves."""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import jax
import ml_collections
import numpy as np
import optax

from diffad_jax.checkpoint import Checkpoints, abstract_state, fingerprint
from diffad_jax.progress import Progress
from diffad_jax.train_state import Params, TrainState
from diffad_jax.types import Batch

Config = ml_collections.FrozenConfigDict


class Stage(Protocol):
    """What a module in ``stages`` offers. ``frozen`` holds the weights of the stages before."""

    NAME: str

    def settings(self, config: Config) -> Config: ...
    def make_optimizer(self, config: Config) -> optax.GradientTransformation: ...
    def init_state(
        self, config: Config, key: jax.Array, frozen: dict[str, Params], batch: Batch
    ) -> TrainState: ...
    def train_step(
        self, state: TrainState, frozen: dict[str, Params], batch: Batch, *, config: Config
    ) -> tuple[TrainState, dict[str, jax.Array]]: ...
    def weights(self, state: TrainState) -> Params: ...
    def validate(
        self, weights: dict[str, Params], batch: Batch, *, config: Config
    ) -> dict[str, jax.Array]: ...


class TrainingError(RuntimeError):
    """Training went wrong; the message names stage and step."""


def train_stage(
    stage: Stage,
    config: Config,
    frozen: dict[str, Params],
    directory: Path,
    batches: Callable[[int], Iterator[Batch]],
    title: str,
) -> tuple[Params, bool]:
    """Trains ``stage`` from its newest checkpoint (or from nothing) to its last step.

    Args:
      stage: a module of ``stages``.
      config: the whole config.
      frozen: weights of the stages before.
      directory: the category's folder; checkpoints go to ``directory / NAME``.
      batches: start step -> training batches from there on.
      title: for the progress bar.

    Returns:
      The stage's weights, and whether any step was left to do.

    Raises:
      checkpoint.CheckpointError: the folder holds a checkpoint of another config.
      TrainingError: the loss is not finite.
    """
    total, batch_size = stage.settings(config).steps, stage.settings(config).batch_size
    frozen = jax.device_put(frozen)
    mark = fingerprint(stage, config, frozen)
    checkpoints = Checkpoints(directory / stage.NAME, keep=config.training.keep_checkpoints)
    start = checkpoints.latest_step() or 0
    template = abstract_state(stage, config, frozen)
    if start >= total:
        weights = checkpoints.restore(start, "weights", stage.weights(template), mark)
        checkpoints.close()
        return weights, False
    stream = batches(start)
    if start:
        state = checkpoints.restore(start, "state", template, mark)
    else:
        key = stage_key(config, stage.NAME)
        init = jax.jit(functools.partial(stage.init_state, config))
        first = next(stream)
        state = init(key, frozen, first)
        stream = itertools.chain([first], stream)
    step_fn = jax.jit(functools.partial(stage.train_step, config=config), donate_argnums=0)
    with Progress(title, start, total, batch_size, directory / "metrics.jsonl") as progress:
        for step in range(start + 1, total + 1):
            state, metrics = step_fn(state, frozen, next(stream))
            if step == start + 1:
                jax.block_until_ready(metrics)
                progress.compiled(step)
            save = step % config.training.checkpoint_every == 0 or step == total
            if save or step % config.training.log_every == 0:
                values = {k: float(v) for k, v in jax.device_get(metrics).items()}
                _require_finite(values, title, step, checkpoints)
                progress.update(step, values)
            if save:
                checkpoints.save(step, state, stage.weights(state), mark, total)
    checkpoints.wait()
    checkpoints.close()
    return stage.weights(state), True


def with_steps(
    stage: Stage, config: Config, directory: Path, num_photos: Callable[[], int]
) -> Config:
    """The config with the stage's length in steps, where it has it in epochs.

    An epoch is as many examples as there are normal photos. The length is settled when a stage
    begins: photos that are added later do not make a finished stage unfinished.

    Args:
      stage: a module of ``stages``.
      config: the whole config.
      directory: the category's folder.
      num_photos: counts the normal photos; asked only where the length is not settled.
    """
    c = stage.settings(config)
    if c.steps:
        return config
    checkpoints = Checkpoints(directory / stage.NAME, keep=config.training.keep_checkpoints)
    steps = checkpoints.planned_steps() or math.ceil(c.epochs * num_photos() / c.batch_size)
    checkpoints.close()
    settled = ml_collections.ConfigDict(config)
    with settled.unlocked():
        stage.settings(settled).steps = steps
    return Config(settled)


def validate_stage(
    stage: Stage, config: Config, weights: dict[str, Params], batch: Batch
) -> dict[str, float]:
    """The stage's own figures on held-out photos with synthetic anomalies, never on test data."""
    started = time.monotonic()
    fn = jax.jit(functools.partial(stage.validate, config=config))
    figures = {k: float(v) for k, v in jax.device_get(fn(weights, batch)).items()}
    return figures | {"seconds": time.monotonic() - started}


def stage_key(config: Config, name: str) -> jax.Array:
    """A stage's random key: depends on the seed and the stage's name alone."""
    return jax.random.fold_in(
        jax.random.key(config.seed), np.uint32(int.from_bytes(name.encode()[:4]))
    )


def _require_finite(
    metrics: dict[str, Any], title: str, step: int, checkpoints: Checkpoints
) -> None:
    bad = {k: v for k, v in metrics.items() if not math.isfinite(v)}
    if bad:
        checkpoints.wait()
        raise TrainingError(
            f"{title}: {', '.join(bad)} not finite at step {step}; the last good checkpoint is "
            f"step {checkpoints.latest_step() or 0} in {checkpoints.directory}. Lower the "
            "learning rate or set config.training.gradient_clip."
        )
