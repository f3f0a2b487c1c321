"""The one loop that trains any stage: resumes, logs, saves, stops."""

import contextlib
import dataclasses
import itertools
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from diffad_jax.errors import UserError
from diffad_jax.methods.computing import compute_dtype
from diffad_jax.methods.contract import Stage, Step, Validate
from diffad_jax.methods.train_state import Params, TrainState, Weights
from diffad_jax.runtime import console, flops, sharding
from diffad_jax.runtime.compilation import jitted
from diffad_jax.runtime.signals import Stopped, StopSignal
from diffad_jax.training.checkpoint import EARLIER, Checkpoints, chosen_step
from diffad_jax.training.data import Data, Outcome
from diffad_jax.training.fingerprint import BEGUN_FROM, PHOTOS, fingerprint, weights_hash
from diffad_jax.training.journal import Journal
from diffad_jax.training.profiling import Profiler, Steps
from diffad_jax.training.progress import Progress
from diffad_jax.types import Batch, Validation

Config = ml_collections.FrozenConfigDict
Metrics = dict[str, jax.Array]
_SHOWN = 6  # held-out examples among the pictures


class TrainingError(UserError):
    """Training went wrong; the message names stage and step."""


def train_stage(
    stage: Stage,
    config: Config,
    earlier_weights: Weights,
    directory: Path,
    data: Data,
    title: str,
    profile: Steps | None = None,
    flop_after: Callable[[], float] = lambda: 0.0,
) -> Outcome:
    """Trains ``stage`` from its newest sound checkpoint (or from nothing) to its last step.

    Args:
      stage: of a method.
      config: the whole config.
      earlier_weights: those of the stages before, by name.
      directory: the category's folder; checkpoints go to ``directory / NAME``.
      data: training and held-out examples.
      title: for the progress bar.
      profile: steps to trace, into ``directory / "profile" / NAME``.
      flop_after: of the stages that come later, see ``Progress``.

    Raises:
      checkpoint.CheckpointError: the folder holds a checkpoint of another config.
      ConfigError: the mesh does not fit the devices or the batches.
      Stopped: a signal asked to stop; all is saved.
      TrainingError: the loss or a gradient is not finite.
    """
    mesh, batch_size = sharding.make_mesh(config), stage.settings(config).batch_size
    sharding.check_batch_size(mesh, batch_size, f"config.{stage.section}.batch_size")
    keep = config.training.keep_checkpoints
    checkpoints = Checkpoints(directory / stage.name, keep=keep, writes=True)
    start = checkpoints.newest_sound_step()
    planned = checkpoints.planned_steps(start) if start else 0
    shaping, config = config, with_steps(stage, config, planned, data.num_photos)
    num_steps = stage.num_steps(config)
    earlier_weights = sharding.place(mesh, earlier_weights)
    shapes = stage.state_shapes(config, earlier_weights)
    template = sharding.with_shardings(shapes, sharding.weights_sharding(mesh, shapes))
    if start < num_steps:
        stands_on = earlier_weights | sharding.place(mesh, data.pretrained(stage))
        checkpoints.remove_after(start)
        stream = _to_devices(
            data.batches(stage.name, start, batch_size), sharding.batch_sharding(mesh)
        )
        first = next(stream)
        made_of = fingerprint(stage, config, stands_on, data.photos + data.recording)
        if start:
            if jax.process_index() == 0:
                console.note(f"{title}: goes on from step {start} of {num_steps}")
            begun = checkpoints.fingerprint(start).items()
            made_of |= {name: value for name, value in begun if name == BEGUN_FROM}
            state = checkpoints.restore(start, "state", template, made_of, for_training=True)
        else:
            state = _born_sharded(stage, config, shaping, template, stands_on, first)
            state, begun_from = _from_earlier(directory / EARLIER / stage.name, template, state)
            made_of |= begun_from
        held_out = sharding.to_global(data.held_out(), sharding.replicated(mesh))
        journal = Journal(directory, title, stage.name, start)
        profiler = Profiler(profile, directory / "profile" / stage.name)
        with contextlib.closing(journal), profiler:
            _Run(
                stage, config, shaping, stands_on, checkpoints, made_of, held_out, title, journal,
                profiler, flop_after,
            ).train(state, itertools.chain([first], stream), first)  # fmt: skip
    step = chosen_step(checkpoints, max(start, num_steps), config)
    wanted = fingerprint(stage, config, earlier_weights)
    template = stage.weights(template)
    weights = checkpoints.restore(step, "weights", template, wanted, for_training=False)
    metrics = checkpoints.metrics(step)
    checkpoints.close()
    return Outcome(weights, metrics, trained=start < num_steps)


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
    shaping: Config  # the same, where a length in epochs is no number of steps yet
    stands_on: Weights  # the earlier ones, and the pretrained network's
    checkpoints: Checkpoints
    made_of: dict  # the fingerprint
    held_out: dict[str, jax.Array]
    title: str
    journal: Journal
    profiler: Profiler
    flop_after: Callable[[], float]

    def train(self, state: TrainState, stream: Iterator[dict[str, jax.Array]], first: dict) -> None:
        """To the last step.

        The device always has a step to do: what is to be shown or saved of a step is fetched when
        the next one is on its way. It never has two, so a stop takes no longer than that.
        """
        settings, due = self.stage.settings(self.config), None
        start, total = int(state.step), settings.steps
        progress = Progress(
            self.title, start, total, settings.batch_size, compute_dtype(self.config),
            self.flop_after,
        )  # fmt: skip
        with progress, StopSignal() as stop:
            with progress.compiling():
                step_fn = self._step(state)
                arguments = (state, self.stands_on, first, np.int32(total))
                compiled = step_fn.lower(*arguments).compile()
                validate = jitted(_validate, self.shaping, of_stage=self.stage.validate)
                validate = validate.lower(self._together(state), self.held_out).compile()
                progress.count_work(flops.count(step_fn, *arguments))
            for step in range(start + 1, total + 1):
                with progress.waiting_for_data():
                    batch = next(stream)
                self.profiler.before(step)
                state, metrics = compiled(state, self.stands_on, batch, np.int32(total))
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

    def _step(self, state: TrainState) -> Callable:
        shardings = jax.tree.map(lambda x: x.sharding, state)
        return jitted(
            _step,
            self.shaping,
            section=self.stage.section,
            of_stage=self.stage.train_step,
            donate_argnums=(0,),
            out_shardings=(shardings, None),
        )

    def _together(self, state: TrainState) -> dict[str, Params]:
        return self.stands_on | {self.stage.name: self.stage.weights(state)}

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
        progress.done(due.step)
        if not due.shows:
            return
        values = self._checked(due.step, due.metrics)
        entry, held_out = values | progress.update(due.step, values), {}
        if due.validation:
            found = {k: float(v) for k, v in jax.device_get(due.validation.metrics).items()}
            # Undefined where, say, no held-out example is anomalous.
            held_out = {k: v if math.isfinite(v) else None for k, v in found.items()}
            entry |= {f"held_out_{k}": v for k, v in held_out.items()}
            self.journal.show(due.step, jax.device_get(due.validation.pictures))
        self.journal.write(due.step, entry)
        if due.state is None:
            return
        self.checkpoints.save(
            due.step,
            due.state,
            self.stage.weights(due.state),
            self.made_of,
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


def _step(
    state: TrainState,
    stands_on: Weights,
    batch: Batch,
    num_steps: jax.Array,
    *,
    config: Config,
    section: str,
    of_stage: Step,
) -> tuple[TrainState, Metrics]:
    """One step; ``num_steps`` counts where ``config`` has the stage's length in epochs."""
    step = skipping_nonfinite(of_stage) if config.training.on_nonfinite == "skip" else of_stage
    if not config[section].steps:
        config = _with_steps(section, config, num_steps)
    return step(state, stands_on, batch, config=config)


def _validate(weights: Weights, batch: Batch, *, config: Config, of_stage: Validate) -> Validation:
    """Pictures are of the first few examples."""
    validation = of_stage(weights, batch, config=config)
    few = {title: images[:_SHOWN] for title, images in validation.pictures.items()}
    return validation.replace(pictures=few)


@jax.jit
def _copy(state: TrainState) -> TrainState:
    """The next step gives up the state's own buffers."""
    return jax.tree.map(jnp.copy, state)


def skipping_nonfinite(step: Callable) -> Callable:
    """``step`` that keeps the state, but for its count, where a metric is not finite.

    ``skipped`` among the metrics is 1 for such a step; its other metrics are 0.
    """

    def guarded(
        state: TrainState, stands_on: Weights, batch: dict, **static: Config
    ) -> tuple[TrainState, Metrics]:
        moved, metrics = step(state, stands_on, batch, **static)
        finite = jnp.all(jnp.isfinite(jnp.stack([*metrics.values()])))
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
        metrics = {k: jnp.where(finite, v, 0.0) for k, v in metrics.items()}
        return kept.replace(step=moved.step), metrics | {"skipped": 1.0 - finite}

    return guarded


def _born_sharded(
    stage: Stage,
    config: Config,
    shaping: Config,
    template: TrainState,
    stands_on: Weights,
    first: dict,
) -> TrainState:
    """A fresh state of which no device ever holds more than its share."""
    init = stage.initialised(shaping, jax.tree.map(lambda x: x.sharding, template))
    return init(stage_key(config, stage.name), stands_on, first)


def _from_earlier(
    folder: Path, template: TrainState, fresh: TrainState
) -> tuple[TrainState, dict[str, str]]:
    """``fresh`` with the networks of the newest checkpoint in ``folder``, if there is one.

    Returns:
      The state, whose optimiser and step are fresh, and what the fingerprint says of it.
    """
    if not folder.is_dir():
        return fresh, {}
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        step = checkpoints.newest_sound_step()
        made_of = checkpoints.fingerprint(step)
        old = checkpoints.restore(step, "state", template, made_of, for_training=True)
    state = fresh.replace(params=old.params, ema_params=old.ema_params, variables=old.variables)
    said = f"{weights_hash(old.params)}, step {step}, {made_of[PHOTOS] or 'imported'}"
    return state, {BEGUN_FROM: said}


def _to_devices(
    batches: Iterator[Batch], where: jax.sharding.NamedSharding
) -> Iterator[dict[str, jax.Array]]:
    for batch in batches:
        yield sharding.to_global(batch, where)


def with_steps(stage: Stage, config: Config, planned_steps: int, num_photos: int) -> Config:
    """The config with the stage's length in steps, where it has it in epochs.

    An epoch is ceil(photos / batch size) steps, as published. The length is settled when a stage
    begins: photos that are added later do not make a finished stage unfinished.

    Args:
      stage: of a method.
      config: the whole config.
      planned_steps: when the stage began; 0 where it has not.
      num_photos: normal ones.
    """
    settings = stage.settings(config)
    if settings.steps:
        return config
    in_epochs = settings.epochs * math.ceil(num_photos / settings.batch_size)
    return _with_steps(stage.section, config, planned_steps or in_epochs)


def _with_steps(section: str, config: Config, steps: int | jax.Array) -> Config:
    # A ConfigDict of another shares its sections, and would change them.
    changed = ml_collections.ConfigDict(config).copy_and_resolve_references()
    with changed.unlocked(), changed.ignore_type():
        changed[section].steps = steps
    return Config(changed)


def stage_key(config: Config, name: str) -> jax.Array:
    """A stage's random key: depends on the seed and the stage's name alone."""
    return jax.random.fold_in(jax.random.key(config.seed), np.uint32(zlib.crc32(name.encode())))
