"""The one loop that trains any stage: resumes, logs, saves, stops."""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from diffad_jax.errors import UserError
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.train_state import Params, TrainState
from diffad_jax.runtime import flops, sharding
from diffad_jax.runtime.signals import Stopped, StopSignal
from diffad_jax.training.checkpoint import Checkpoints, chosen_step
from diffad_jax.training.fingerprint import fingerprint
from diffad_jax.training.journal import Journal
from diffad_jax.training.profiling import Profiler, Steps
from diffad_jax.training.progress import Progress
from diffad_jax.types import Batch, Validation

Config = ml_collections.FrozenConfigDict
Metrics = dict[str, jax.Array]
_SHOWN = 6  # held-out examples among the pictures


class TrainingError(UserError):
    """Training went wrong; the message names stage and step."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Where a stage's examples come from."""

    batches: Callable[[int, int], Iterator[Batch]]  # (first step, batch size) -> own share of each
    held_out: Callable[[], Batch]  # examples on held-out photos, whole in every process
    photos: str  # names the training photos, see ``fingerprint.describe_photos``


def train_stage(
    stage: Stage,
    config: Config,
    frozen: dict[str, Params],
    directory: Path,
    data: Data,
    title: str,
    profile: Steps | None = None,
) -> tuple[Params, dict[str, float], bool]:
    """Trains ``stage`` from its newest sound checkpoint (or from nothing) to its last step.

    Args:
      stage: of a method, see ``contracts``.
      config: the whole config.
      frozen: what ``stage.train_step`` stands on: the weights of the stages before.
      directory: the category's folder; checkpoints go to ``directory / NAME``.
      data: training and held-out examples.
      title: for the progress bar.
      profile: steps to trace, into ``directory / "profile" / NAME``.

    Returns:
      The stage's weights; their metrics on held-out photos (none for imported weights); whether any
      step was left to do.

    Raises:
      checkpoint.CheckpointError: the folder holds a checkpoint of another config.
      ConfigError: the mesh does not fit the devices or the batches.
      Stopped: a signal asked to stop; all is saved.
      TrainingError: the loss or a gradient is not finite.
    """
    c, mesh = stage.settings(config), sharding.make_mesh(config)
    sharding.check_batch_size(mesh, c.batch_size, f"config.{stage.section}.batch_size")
    frozen = sharding.place(mesh, frozen)
    shapes = stage.state_shapes(config, frozen)
    template = sharding.with_shardings(shapes, sharding.weights_sharding(mesh, shapes))
    mark = fingerprint(stage, config, frozen, data.photos)
    folder, keep = directory / stage.name, config.training.keep_checkpoints
    checkpoints = Checkpoints(folder, keep=keep, writes=True)
    start = checkpoints.newest_sound_step()
    if trains := start < c.steps:
        checkpoints.remove_after(start)
        stream = _to_devices(data.batches(start, c.batch_size), sharding.batch_sharding(mesh))
        first = next(stream)
        if start:
            state = checkpoints.restore(start, "state", template, mark, for_training=True)
        else:
            state = _born_sharded(stage, config, template, frozen, first)
        held_out = sharding.to_global(data.held_out(), sharding.replicated(mesh))
        journal = Journal(directory, title, stage.name, start)
        profiler = Profiler(profile, directory / "profile" / stage.name)
        with contextlib.closing(journal), profiler:
            _Run(
                stage, config, frozen, checkpoints, mark, held_out, title, journal, profiler
            ).train(state, itertools.chain([first], stream), first)
    step = chosen_step(checkpoints, max(start, c.steps), config)
    weights = checkpoints.restore(
        step, "weights", stage.weights(template), mark, for_training=False
    )
    held_out = checkpoints.metrics(step)
    checkpoints.close()
    return weights, held_out, trains


class PendingStep(NamedTuple):
    """What a step leaves to be done on the host, once the device is busy with the next one."""

    step: int
    metrics: Metrics
    shows: bool = False
    state: TrainState | None = None  # a copy, to be saved
    validation: Validation | None = None


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
    journal: Journal
    profiler: Profiler

    def train(self, state: TrainState, stream: Iterator[dict[str, jax.Array]], first: dict) -> None:
        """To the last step.

        The device always has a step to do: what is to be shown or saved of a step is fetched when
        the next one is on its way. It never has two, so a stop takes no longer than that.
        """
        c, due = self.stage.settings(self.config), None
        start, total = int(state.step), c.steps
        progress = Progress(
            self.title, start, total, c.batch_size, self.config.training.compute_dtype
        )
        with progress, StopSignal() as stop:
            with progress.compiling():
                jitted = self._jitted(state)
                step_fn = jitted.lower(state, self.frozen, first).compile()
                validate = self._validation().lower(self._together(state), self.held_out).compile()
                progress.count_work(flops.count(jitted, state, self.frozen, first))
            for step in range(start + 1, total + 1):
                with progress.waiting_for_data():
                    batch = next(stream)
                self.profiler.before(step)
                state, metrics = step_fn(state, self.frozen, batch)
                self.profiler.after(step, metrics)
                if due:
                    self._finish(due, progress)
                stopped = stop.requested(step)
                due = self._begin(step, state, metrics, validate, stopped)
                if stopped:
                    break
            self._finish(due, progress)
            self.checkpoints.wait()
            # One of several goes on: at the next stage's first step all hear of the signal.
            if stopped or (stop.received and jax.process_count() == 1):
                raise Stopped(f"{self.title}: stopped at step {step} of {total}, all is saved; "
                              "the same command goes on from there")  # fmt: skip

    def _jitted(self, state: TrainState) -> Callable:
        shardings = jax.tree.map(lambda x: x.sharding, state)
        step = functools.partial(self.stage.train_step, config=self.config)
        if self.config.training.on_nonfinite == "skip":
            step = skipping_nonfinite(step)
        return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))

    def _validation(self) -> Callable:
        """Pictures are of the first few examples."""

        def validate(weights: dict[str, Params], batch: dict) -> Validation:
            found = self.stage.validate(weights, batch, config=self.config)
            return found.replace(pictures={k: v[:_SHOWN] for k, v in found.pictures.items()})

        return jax.jit(validate)

    def _together(self, state: TrainState) -> dict[str, Params]:
        return self.frozen | {self.stage.name: self.stage.weights(state)}

    def _begin(
        self, step: int, state: TrainState, metrics: Metrics, validate: Callable, stopped: bool
    ) -> PendingStep:
        """Has the device make what is to be saved; waits for nothing."""
        training, last = self.config.training, step == self.stage.settings(self.config).steps
        if not (stopped or last or step % training.checkpoint_every == 0):
            return PendingStep(step, metrics, shows=step % training.log_every == 0)
        validates = last or not stopped  # a stop has no time for it
        validation = validate(self._together(state), self.held_out) if validates else None
        return PendingStep(step, metrics, True, _copy(state), validation)

    def _finish(self, due: PendingStep, progress: Progress) -> None:
        """Waits for the step, and shows and saves what is due of it."""
        jax.block_until_ready(due.metrics)
        if not due.shows:
            return
        values = self._checked(due.step, due.metrics)
        entry, held_out = values | progress.update(due.step, values), {}
        if due.validation:
            held_out = {k: float(v) for k, v in jax.device_get(due.validation.metrics).items()}
            entry |= {f"held_out_{k}": v for k, v in held_out.items()}
            self.journal.show(due.step, jax.device_get(due.validation.pictures))
        self.journal.write(due.step, entry)
        if due.state is None:
            return
        self.checkpoints.save(
            due.step,
            due.state,
            self.stage.weights(due.state),
            self.mark,
            planned_steps=self.stage.settings(self.config).steps,
            metrics=held_out,
            best_by=self.stage.best_by,
        )

    def _checked(self, step: int, metrics: Metrics) -> dict[str, float]:
        """The metrics as numbers; raises TrainingError where they say that training broke."""
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
        return values


@jax.jit
def _copy(state: TrainState) -> TrainState:
    """The next step gives up the state's own buffers."""
    return jax.tree.map(jnp.copy, state)


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
    return init(stage_key(config, stage.name), frozen, first)


def _to_devices(
    batches: Iterator[Batch], where: jax.sharding.NamedSharding
) -> Iterator[dict[str, jax.Array]]:
    for batch in batches:
        yield sharding.to_global(batch, where)


def with_steps(
    stage: Stage, config: Config, directory: Path, num_photos: Callable[[], int]
) -> Config:
    """The config with the stage's length in steps, where it has it in epochs.

    An epoch is ceil(photos / batch size) steps, as published. The length is settled when a stage
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
    if (directory / stage.name).is_dir():
        checkpoints = Checkpoints(directory / stage.name)
        if newest := checkpoints.newest_sound_step():
            steps = checkpoints.planned_steps(newest)
        checkpoints.close()
    steps = steps or c.epochs * math.ceil(num_photos() / c.batch_size)
    settled = ml_collections.ConfigDict(config)
    with settled.unlocked():
        stage.settings(settled).steps = steps
    return Config(settled)


def stage_key(config: Config, name: str) -> jax.Array:
    """A stage's random key: depends on the seed and the stage's name alone."""
    return jax.random.fold_in(
        jax.random.key(config.seed), np.uint32(int.from_bytes(name.encode()[:4]))
    )
