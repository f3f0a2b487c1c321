"""The one loop that trains any stage: resumes, logs, saves, stops."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from diffad_jax import sharding
from diffad_jax.checkpoint import Checkpoints, abstract_state, chosen_step
from diffad_jax.contracts import Stage
from diffad_jax.errors import UserError
from diffad_jax.fingerprint import fingerprint
from diffad_jax.progress import Progress
from diffad_jax.stopping import Stopped, StopSignal
from diffad_jax.train_state import Params, TrainState
from diffad_jax.types import Batch

Config = ml_collections.FrozenConfigDict
Metrics = dict[str, jax.Array]


class TrainingError(UserError):
    """Training went wrong; the message names stage and step."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Where a stage's examples come from."""

    batches: Callable[[int, int], Iterator[Batch]]  # (first step, batch size) -> own share of each
    held_out: Callable[[], Batch]  # examples on held-out photos, whole in every process
    photos: str  # names the training photos, see ``fingerprint.describe_photos``


def train_stage(
    stage: Stage, config: Config, frozen: dict[str, Params], directory: Path, data: Data, title: str
) -> tuple[Params, dict[str, float], bool]:
    """Trains ``stage`` from its newest sound checkpoint (or from nothing) to its last step.

    Args:
      stage: of a method, see ``contracts``.
      config: the whole config.
      frozen: what ``stage.train_step`` stands on: the weights of the stages before.
      directory: the category's folder; checkpoints go to ``directory / NAME``.
      data: training and held-out examples.
      title: for the progress bar.

    Returns:
      The stage's weights; their figures on held-out photos (none for imported weights); whether any
      step was left to do.

    Raises:
      checkpoint.CheckpointError: the folder holds a checkpoint of another config.
      ConfigError: the mesh does not fit the devices or the batches.
      Stopped: a signal asked to stop; all is saved.
      TrainingError: the loss or a gradient is not finite.
    """
    c, mesh = stage.settings(config), sharding.make_mesh(config)
    sharding.check_batch_size(mesh, c.batch_size, f"batch_size of the {stage.NAME}")
    frozen = sharding.place(mesh, frozen)
    shapes = abstract_state(stage, config, frozen)
    template = sharding.with_shardings(shapes, sharding.of_weights(mesh, shapes))
    mark = fingerprint(stage, config, frozen, data.photos)
    folder, keep = directory / stage.NAME, config.training.keep_checkpoints
    checkpoints = Checkpoints(folder, keep=keep, writes=True)
    start = checkpoints.newest_sound_step()
    if trains := start < c.steps:
        checkpoints.remove_after(start)
        stream = _to_devices(data.batches(start, c.batch_size), sharding.of_batch(mesh))
        first = next(stream)
        if start:
            state = checkpoints.restore(start, "state", template, mark, for_training=True)
        else:
            state = _born_sharded(stage, config, template, frozen, first)
        held_out = sharding.to_global(data.held_out(), sharding.replicated(mesh))
        log = directory / "metrics.jsonl"
        _Run(stage, config, frozen, checkpoints, mark, held_out, title, log).train(
            state, itertools.chain([first], stream), first
        )
    step = chosen_step(checkpoints, max(start, c.steps), config)
    weights = checkpoints.restore(
        step, "weights", stage.weights(template), mark, for_training=False
    )
    figures = checkpoints.figures(step)
    checkpoints.close()
    return weights, figures, trains


@dataclasses.dataclass(frozen=True)
class _Run:
    """One stage from a checkpoint on."""

    stage: Stage
    config: Config
    frozen: dict[str, Params]
    checkpoints: Checkpoints
    mark: dict
    held_out: dict[str, jax.Array]
    title: str
    log: Path

    def train(self, state: TrainState, stream: Iterator[dict[str, jax.Array]], first: dict) -> None:
        """To the last step; figures of a step are fetched once the next one is on its way."""
        c, training = self.stage.settings(self.config), self.config.training
        start, total, late = int(state.step), c.steps, None
        progress = Progress(self.title, start, total, c.batch_size, self.log)
        with progress, StopSignal() as stop:
            step_fn = progress.compile(self._jitted(state), state, self.frozen, first)
            for step in range(start + 1, total + 1):
                with progress.waiting_for_data():
                    batch = next(stream)
                state, metrics = step_fn(state, self.frozen, batch)
                if late:
                    self._show(progress, *late)
                late = (step, metrics) if step % training.log_every == 0 else None
                stopped = stop.requested(step)
                if stopped or step == total or step % training.checkpoint_every == 0:
                    self._show(progress, step, metrics)
                    late = None
                    self._save(step, state, validates=not stopped or step == total)
                if stopped or (step == total and stop.received):
                    self.checkpoints.wait()
                    raise Stopped(f"{self.title}: stopped at step {step} of {total}, all is saved; "
                                  "the same command goes on from there")  # fmt: skip
        self.checkpoints.wait()

    def _jitted(self, state: TrainState) -> Callable:
        shardings = jax.tree.map(lambda x: x.sharding, state)
        step = functools.partial(self.stage.train_step, config=self.config)
        if self.config.training.on_nonfinite == "skip":
            step = skipping_nonfinite(step)
        return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))

    def _show(self, progress: Progress, step: int, metrics: Metrics) -> None:
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        bad = {k: v for k, v in values.items() if not math.isfinite(v)}
        if bad and self.config.training.on_nonfinite == "stop":
            self.checkpoints.wait()
            shown = ", ".join(f"{k} = {v:.4g}" for k, v in values.items())
            raise TrainingError(
                f"{self.title}: {', '.join(bad)} not finite at step {step} ({shown}); the last "
                f"good checkpoint is step {self.checkpoints.newest_sound_step()} in "
                f"{self.checkpoints.directory}. Lower the learning rate, set "
                "config.training.gradient_clip, or config.training.on_nonfinite = 'skip'."
            )
        progress.update(step, values)

    def _save(self, step: int, state: TrainState, *, validates: bool) -> None:
        weights = self.stage.weights(state)
        figures = {}
        if validates:
            together = self.frozen | {self.stage.NAME: weights}
            found = _validate(self.stage, self.config)(together, self.held_out)
            figures = {k: float(v) for k, v in jax.device_get(found).items()}
        self.checkpoints.save(
            step,
            state,
            weights,
            self.mark,
            planned_steps=self.stage.settings(self.config).steps,
            figures=figures,
            best_by=self.stage.BEST_BY,
        )


@functools.cache
def _validate(stage: Stage, config: Config) -> Callable:
    return jax.jit(functools.partial(stage.validate, config=config))


def skipping_nonfinite(step: Callable) -> Callable:
    """``step`` that keeps the state, but for its count, where a metric is not finite.

    ``skipped`` among the metrics is 1 for such a step; its other metrics are 0.
    """

    def guarded(state: TrainState, frozen: dict, batch: dict) -> tuple[TrainState, Metrics]:
        moved, metrics = step(state, frozen, batch)
        finite = jnp.all(jnp.isfinite(jnp.stack([*metrics.values()])))
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
        metrics = {k: jnp.where(finite, v, 0.0) for k, v in metrics.items()}
        return kept.replace(step=moved.step), metrics | {"skipped": 1.0 - finite}

    return guarded


def _born_sharded(
    stage: Stage, config: Config, template: TrainState, frozen: dict, first: dict
) -> TrainState:
    """A fresh state of which no device ever holds more than its share."""
    init = jax.jit(
        functools.partial(stage.init_state, config),
        out_shardings=jax.tree.map(lambda x: x.sharding, template),
    )
    return init(stage_key(config, stage.NAME), frozen, first)


def _to_devices(
    batches: Iterator[Batch], where: jax.sharding.NamedSharding
) -> Iterator[dict[str, jax.Array]]:
    for batch in batches:
        yield sharding.to_global(batch, where)


def with_steps(
    stage: Stage, config: Config, directory: Path, num_photos: Callable[[], int]
) -> Config:
    """The config with the stage's length in steps, where it has it in epochs.

    An epoch is as many examples as there are normal photos. The length is settled when a stage
    begins: photos that are added later do not make a finished stage unfinished.

    Args:
      stage: of a method, see ``contracts``.
      config: the whole config.
      directory: the category's folder.
      num_photos: counts the normal photos; asked only where the length is not settled.
    """
    c = stage.settings(config)
    if c.steps:
        return config
    steps = 0
    if (directory / stage.NAME).is_dir():
        checkpoints = Checkpoints(directory / stage.NAME)
        if newest := checkpoints.newest_sound_step():
            steps = checkpoints.planned_steps(newest)
        checkpoints.close()
    steps = steps or math.ceil(c.epochs * num_photos() / c.batch_size)
    settled = ml_collections.ConfigDict(config)
    with settled.unlocked():
        stage.settings(settled).steps = steps
    return Config(settled)


def stage_key(config: Config, name: str) -> jax.Array:
    """A stage's random key: depends on the seed and the stage's name alone."""
    return jax.random.fold_in(
        jax.random.key(config.seed), np.uint32(int.from_bytes(name.encode()[:4]))
    )
