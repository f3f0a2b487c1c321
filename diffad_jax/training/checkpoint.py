"""Checkpoints of a stage: DIR/STEP/{state, weights, fingerprint, plan, held_out}, by Orbax.

``state`` is all that training needs to go on; ``weights`` the small part that later stages and the
detector need; ``fingerprint`` what both depend on; ``plan`` how many steps the stage is to take;
``held_out`` the metrics of the validation, where there was one.
Orbax writes to a temporary folder and renames it, when all of it is on the disk: a checkpoint is
there whole or not at all. What happens to it afterwards shows ``checksums.json``, which is written
before it is renamed.
"""

import contextlib
import dataclasses
import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import orbax.checkpoint as ocp
from orbax.checkpoint.path import atomicity

from diffad_jax.errors import UserError, is_disk_full
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.train_state import Params, TrainState, Weights
from diffad_jax.runtime import checksums, files, regular, sharding
from diffad_jax.training.fingerprint import ONLY_FOR_TRAINING, config_fields, fingerprint

logger = logging.getLogger(__name__)
EARLIER = "earlier"  # folder of the stages whose weights training begins from, while it lasts
_ITEMS = ("state", "weights", "fingerprint", "plan", "held_out")
_ALWAYS = {"weights", "fingerprint", "plan"}
_CHECKSUMS = "checksums.json"
_BEST = "best by"  # the metric that checkpoints are compared by


class _SyncedRename(atomicity.AtomicRenameTemporaryPath):
    """Orbax's, whose new name is on the disk before Orbax deletes older checkpoints."""

    async def finalize(self) -> None:
        await super().finalize()
        files.sync(Path(self.get_final()).parent)


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or unfitting, or cannot be written.

    The message names the folder and the remedy.
    """


@dataclasses.dataclass
class _NewestAndBest:
    """Which checkpoints stay. Orbax's own ``BestN`` does not start where a metric is damaged."""

    keep: int
    scores: dict[int, float]  # by step

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [c.step for c in checkpoints]
        scored = [s for s in steps if s in self.scores]
        kept = {*steps[-self.keep :], max(scored, key=self.scores.get, default=None)}
        return [s in kept for s in steps]


class Checkpoints:
    """The checkpoints of one stage; saving goes on in the background.

    Args:
      directory: of the stage.
      keep: how many of the newest stay; the best by its validation stays as well.
      writes: whether any are going to be saved; what a killed process left half-written goes.
    """

    def __init__(self, directory: Path, *, keep: int = 1, writes: bool = False):
        self.directory = directory.absolute()
        if writes and jax.process_index() == 0:
            files.make_folder(self.directory)
            for half in self.directory.glob(f"*{files.HALF_CHECKPOINT}*"):
                shutil.rmtree(half)
        self._saving = 0  # the step that is being written
        self._scores: dict[int, float] = {}
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_NewestAndBest(keep, self._scores),
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
                temporary_path_class=_SyncedRename,
            ),
            item_names=_ITEMS,
        )
        for step in self._manager.all_steps():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # damaged
                if metrics := self._metrics(step):
                    self._count(step, metrics[_BEST])

    def newest_sound_step(self) -> int:
        """The newest step whose files are as they were written; 0 if there are no checkpoints.

        Damaged ones are named in the log.

        Raises:
          CheckpointError: there are checkpoints, and all of them are damaged.
        """
        steps, faults = sorted(self._manager.all_steps(), reverse=True), []
        for step in steps:
            fault = _fault(self._folder(step))
            if not fault:
                return step
            faults.append(f"  {self._folder(step)}: {fault}")
            logger.warning("checkpoint %s is damaged and passed over: %s",
                           self._folder(step), fault)  # fmt: skip
        if faults:
            raise CheckpointError(
                "all checkpoints of this stage are damaged:\n"
                + "\n".join(faults)
                + f"\nPut back a copy of one, or delete {self.directory} to train this stage again."
            )
        return 0

    def remove_after(self, step: int) -> None:
        """Deletes the checkpoints behind ``step``, to be written again."""
        for later in self._manager.all_steps():
            if later > step:
                self._manager.delete(later)

    def planned_steps(self, step: int) -> int:
        """How many steps the run that wrote ``step`` was to take."""
        return self._json(step, "plan")["steps"]

    def fingerprint(self, step: int) -> dict:
        """What the weights at ``step`` depend on."""
        return self._json(step, "fingerprint")

    def save(
        self,
        step: int,
        state: TrainState | None,
        weights: Params,
        fingerprint: dict,
        *,
        planned_steps: int,
        metrics: dict[str, float | None],
        best_by: str,
    ) -> None:
        """Begins to save; what is handed over may be overwritten at once.

        Args:
          step: of the state.
          state, weights, fingerprint: see above; a fitted stage has no state to go on from.
          planned_steps: of the run.
          metrics: of a validation, None where undefined; empty where there was none at this step.
          best_by: which of them makes a checkpoint the best: the larger, the better.

        Raises:
          CheckpointError: the disk is full, now or when the one before was written.
        """
        self.wait()
        items = {
            "weights": ocp.args.StandardSave(weights),
            "fingerprint": ocp.args.JsonSave(fingerprint),
            "plan": ocp.args.JsonSave({"steps": planned_steps}),
        }
        if state is not None:
            items["state"] = ocp.args.StandardSave(state)
        if metrics:
            items["held_out"] = ocp.args.JsonSave(metrics | {_BEST: metrics[best_by]})
            self._count(step, metrics[best_by])
        self._saving = step
        with self._explaining_a_full_disk():
            self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(
        self, step: int, item: str, template: Any, fingerprint: dict, *, for_training: bool
    ) -> Any:
        """The item (``state`` or ``weights``) of ``step``, in the shape of ``template``.

        Args:
          step: of a checkpoint.
          item: see above.
          template: shapes with shardings; None for what a fitted stage saved, NumPy arrays whose
            shapes depend on the photos.
          fingerprint: must agree with the checkpoint's.
          for_training: so must what only training needs: photos, perceptual weights.

        Raises:
          CheckpointError: the checkpoint was written under another ``fingerprint``.
        """
        found = self.fingerprint(step)
        if not for_training:
            found, fingerprint = (
                {k: v for k, v in d.items() if k not in ONLY_FOR_TRAINING}
                for d in (found, fingerprint)
            )
        _refuse_unfitting(self.directory, found, fingerprint)
        return self._manager.restore(
            step, args=ocp.args.Composite(**{item: ocp.args.StandardRestore(template)})
        )[item]

    def best_step(self) -> int | None:
        """The step with the best validation; None where none was validated."""
        steps = [s for s in self._manager.all_steps() if s in self._scores]
        sound = [s for s in steps if not _fault(self._folder(s))]
        return max(sound, key=self._scores.get, default=None)

    def metrics(self, step: int) -> dict[str, float | None]:
        """Those of the validation at ``step``, None where undefined; empty where there was none."""
        return {k: v for k, v in self._metrics(step).items() if k != _BEST}

    def wait(self) -> None:
        """Until all is on the disk.

        Raises:
          CheckpointError: the disk is full.
        """
        with self._explaining_a_full_disk():
            self._manager.wait_until_finished()

    def close(self) -> None:
        self.wait()
        self._manager.close()

    def _folder(self, step: int) -> Path:
        return self.directory / str(step)

    def _json(self, step: int, item: str) -> dict:
        args = ocp.args.Composite(**{item: ocp.args.JsonRestore()})
        return self._manager.restore(step, args=args)[item]

    def _count(self, step: int, score: float | None) -> None:
        """Among the validated ones, unless the metric is undefined there."""
        if score is not None and math.isfinite(score):
            self._scores[step] = score

    def _metrics(self, step: int) -> dict[str, float | None]:
        return self._json(step, "held_out") if (self._folder(step) / "held_out").exists() else {}

    def _write_checksums(self) -> None:
        """Orbax calls it in the background, in process 0, before it renames the folder."""
        (folder,) = self.directory.glob(f"{self._saving}{files.HALF_CHECKPOINT}*")
        sums = checksums.of_folder(folder)
        # What Orbax still changes there, and does not need: when it was committed.
        sums.pop("_CHECKPOINT_METADATA", None)
        (folder / _CHECKSUMS).write_text(json.dumps(sums))
        files.sync_all(folder)

    @contextlib.contextmanager
    def _explaining_a_full_disk(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            if not is_disk_full(error):
                raise
            raise CheckpointError(
                f"the checkpoint of step {self._saving} could not be written to {self.directory}: "
                "the disk is full. Make room and run the same command again: it goes on from step "
                f"{self.newest_sound_step()}."
            ) from error


def refuse_other_config(
    stage: Stage, config: ml_collections.FrozenConfigDict, directory: Path
) -> None:
    """Before any work: raises CheckpointError if a stage's weights are there, of another config."""
    steps = [int(p.name) for p in (directory / stage.name).glob("*") if p.name.isdigit()]
    folder = directory / stage.name / str(max(steps, default=0))
    found = _sound_json(folder, "fingerprint/metadata")
    if found is not None:
        wanted = config_fields(stage, config)
        _refuse_unfitting(directory / stage.name, {n: found.get(n) for n in wanted}, wanted)


def _sound_json(folder: Path, name: str) -> dict | None:
    """A small file of a checkpoint; None where it is not as it was written."""
    try:
        sums = regular.read_json(folder / _CHECKSUMS)
        if checksums.fault(folder, {name: sums[name]}):
            return None
        return regular.read_json(folder / name)
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _refuse_unfitting(directory: Path, found: dict, wanted: dict) -> None:
    differing = [
        f"  {name}: {found.get(name, '(absent)')} there, {wanted.get(name, '(absent)')} here"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise CheckpointError(
            f"the checkpoint in {directory} was trained otherwise:\n"
            + "\n".join(differing)
            + f"\nRestore these values, choose another --workdir, or delete {directory} "
            "to train this stage again."
        )


def _fault(folder: Path) -> str:
    """What is wrong with a checkpoint's files; empty if nothing is."""
    try:
        written = regular.read_json(folder / _CHECKSUMS)
    except FileNotFoundError:
        return f"{_CHECKSUMS} is missing"
    except (OSError, ValueError):
        return f"{_CHECKSUMS} is unreadable"
    if fault := checksums.fault(folder, written):
        return fault
    for item in sorted(_ALWAYS | {p.name for p in folder.iterdir() if p.name in _ITEMS}):
        paths = (path for path in (folder / item).rglob("*") if path.is_file())
        inside = {path.relative_to(folder).as_posix() for path in paths}
        if not inside or inside - written.keys():
            return f"{_CHECKSUMS} does not list all files of {item}"
    return ""


def load_weights(
    stage: Stage,
    config: ml_collections.FrozenConfigDict,
    earlier_weights: Weights,
    directory: Path,
) -> Params:
    """The weights of a finished stage, for the detector, on this process's first device (those of a
    fitted one on the host).

    Args:
      stage: of a method.
      config: must agree with the one it was trained with.
      earlier_weights: those of the stages before.
      directory: the category's folder; the stage's checkpoints lie in ``directory / NAME``.

    Raises:
      CheckpointError: there are none, training is unfinished, or the config differs.
    """
    folder = directory / stage.name
    if not folder.is_dir():
        raise CheckpointError(f"no trained {stage.name} in {folder}: run --mode=train first")
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        step = checkpoints.newest_sound_step()
        total = stage.num_steps(config) or (checkpoints.planned_steps(step) if step else 1)
        if step < total:
            raise CheckpointError(
                f"{folder} is at step {step} of {total}: --mode=train goes on from there"
            )
        template = stage.weights_shapes(config, earlier_weights)
        if stage.join and config.shared:
            template = None  # of as many categories as there were
        if template is not None:
            here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            template = sharding.with_shardings(template, jax.tree.map(lambda _: here, template))
            step = chosen_step(checkpoints, step, config)
        wanted = fingerprint(stage, config, earlier_weights)
        return checkpoints.restore(step, "weights", template, wanted, for_training=False)


def chosen_step(
    checkpoints: Checkpoints, newest: int, config: ml_collections.FrozenConfigDict
) -> int:
    """The step whose weights a finished stage gives: ``config.training.use`` last or best."""
    return newest if config.training.use == "last" else checkpoints.best_step() or newest
