"""Checkpoints of a stage: DIR/STEP/{state, weights, fingerprint, plan}, written by Orbax.

``state`` is all that training needs to go on; ``weights`` the small part that later stages and the
detector need; ``fingerprint`` what both depend on; ``plan`` how many steps the stage is to take.
Orbax writes to a temporary folder and renames it: a checkpoint is there whole or not at all. What
happens to it afterwards shows ``checksums.json``, which is written next; a process that is killed
in between leaves a checkpoint without.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from diffad_jax import sharding
from diffad_jax.errors import UserError
from diffad_jax.fingerprint import ONLY_FOR_TRAINING, fingerprint
from diffad_jax.train_state import Params, TrainState

logger = logging.getLogger(__name__)
_CHECKSUMS = "checksums.json"
_BEST = "best by"  # the figure that checkpoints are compared by


class CheckpointError(UserError):
    """A checkpoint is missing or does not fit; the message names the folder and the remedy."""


class Checkpoints:
    """The checkpoints of one stage; saving goes on in the background.

    Args:
      directory: of the stage.
      keep: how many of the newest stay; the best by its validation stays as well.
      writes: whether any are going to be saved.
    """

    def __init__(self, directory: Path, *, keep: int = 1, writes: bool = False):
        self.directory = directory.absolute()
        self._writes = writes and jax.process_index() == 0
        policies = ocp.checkpoint_managers
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(keep),
                        policies.BestN(
                            get_metric_fn=lambda figures: figures[_BEST],
                            n=1,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
                best_fn=lambda figures: figures[_BEST],  # has Orbax store the figures
            ),
            item_names=("state", "weights", "fingerprint", "plan"),
        )

    def newest_sound_step(self) -> int:
        """The newest step whose files are as they were written; 0 if there is none.

        Damaged ones are named in the log.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            if fault := _fault(self._folder(step)):
                logger.warning("checkpoint %s is damaged and passed over: %s",
                               self._folder(step), fault)  # fmt: skip
            else:
                return step
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
        state: TrainState,
        weights: Params,
        fingerprint: dict,
        *,
        planned_steps: int,
        figures: dict[str, float],
        best_by: str,
    ) -> None:
        """Begins to save; what is handed over may be overwritten at once.

        Args:
          step: of the state.
          state, weights, fingerprint: see above.
          planned_steps: of the run.
          figures: of a validation; empty where there was none at this step.
          best_by: which of them makes a checkpoint the best: the larger, the better.
        """
        self.wait()
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                weights=ocp.args.StandardSave(weights),
                fingerprint=ocp.args.JsonSave(fingerprint),
                plan=ocp.args.JsonSave({"steps": planned_steps}),
            ),
            metrics=figures | {_BEST: figures[best_by]} if figures else None,
        )

    def restore(
        self, step: int, item: str, template: Any, fingerprint: dict, *, for_training: bool
    ) -> Any:
        """The item (``state`` or ``weights``) of ``step``, in the shape of ``template``.

        Args:
          step: of a checkpoint.
          item: see above.
          template: shapes with shardings.
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
        self._refuse_unfitting(found, fingerprint)
        return self._manager.restore(
            step, args=ocp.args.Composite(**{item: ocp.args.StandardRestore(template)})
        )[item]

    def best_step(self) -> int | None:
        """The step with the best validation; None where none was validated."""
        scored = {
            step: figures[_BEST]
            for step in self._manager.all_steps()
            if (figures := self._manager.metrics(step)) and not _fault(self._folder(step))
        }
        return max(scored, key=scored.get) if scored else None

    def figures(self, step: int) -> dict[str, float]:
        """Those of the validation at ``step``; empty where there was none."""
        return {k: v for k, v in (self._manager.metrics(step) or {}).items() if k != _BEST}

    def wait(self) -> None:
        """Until all is on the disk."""
        self._manager.wait_until_finished()
        self._write_checksums()

    def close(self) -> None:
        self.wait()
        self._manager.close()

    def _folder(self, step: int) -> Path:
        return self.directory / str(step)

    def _json(self, step: int, item: str) -> dict:
        args = ocp.args.Composite(**{item: ocp.args.JsonRestore()})
        return self._manager.restore(step, args=args)[item]

    def _write_checksums(self) -> None:
        if self._writes:
            for folder in self.directory.iterdir():
                if folder.name.isdigit() and not (folder / _CHECKSUMS).exists():
                    temporary = folder / f"{_CHECKSUMS}.tmp"
                    temporary.write_text(json.dumps(_checksums(folder)))
                    temporary.replace(folder / _CHECKSUMS)

    def _refuse_unfitting(self, found: dict, wanted: dict) -> None:
        names = sorted(found.keys() | wanted.keys())
        differing = [
            f"  {name}: {found.get(name, '(absent)')} there, {wanted.get(name, '(absent)')} here"
            for name in names
            if found.get(name) != wanted.get(name)
        ]
        if differing:
            raise CheckpointError(
                f"the checkpoint in {self.directory} was trained otherwise:\n"
                + "\n".join(differing)
                + f"\nRestore these values, choose another --workdir, or delete {self.directory} "
                "to train this stage again."
            )


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint, by its relative path."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(_CHECKSUMS):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            sums[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return sums


def _fault(folder: Path) -> str:
    """What is wrong with a checkpoint's files; empty if nothing is known to be."""
    try:
        written = json.loads((folder / _CHECKSUMS).read_text())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        return f"{_CHECKSUMS} is unreadable"
    found = _checksums(folder)
    for name in sorted(written.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if written.get(name) != found[name]:
            return f"{name} has changed since it was written"
    return ""


def abstract_state(stage: Any, config: ml_collections.FrozenConfigDict, frozen: dict) -> TrainState:
    """The shapes of a stage's state; nothing is computed."""
    side = config.image_size
    pixels = jax.ShapeDtypeStruct((1, side, side, 3), np.uint8)
    batch = {"image": pixels, "augmented_image": pixels}
    return jax.eval_shape(
        lambda frozen, batch: stage.init_state(config, jax.random.key(0), frozen, batch),
        frozen,
        batch,
    )


def load_weights(
    stage: Any, config: ml_collections.FrozenConfigDict, frozen: dict, directory: Path
) -> Params:
    """The weights of a finished stage, for the detector, on this process's first device.

    Args:
      stage: a module of ``stages``.
      config: must agree with the one it was trained with.
      frozen: the weights of the stages before.
      directory: the category's folder; the stage's checkpoints lie in ``directory / NAME``.

    Raises:
      CheckpointError: there are none, training is unfinished, or the config differs.
    """
    folder = directory / stage.NAME
    if not folder.is_dir():
        raise CheckpointError(f"no trained {stage.NAME} in {folder}: run --mode=train first")
    checkpoints = Checkpoints(folder)
    try:
        step = checkpoints.newest_sound_step()
        total = stage.settings(config).steps or (checkpoints.planned_steps(step) if step else 1)
        if step < total:
            raise CheckpointError(
                f"{folder} is at step {step} of {total}: run --mode=train to finish it"
            )
        template = stage.weights(abstract_state(stage, config, frozen))
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        template = sharding.with_shardings(template, jax.tree.map(lambda _: here, template))
        mark = fingerprint(stage, config, frozen)
        return checkpoints.restore(
            chosen_step(checkpoints, step, config), "weights", template, mark, for_training=False
        )
    finally:
        checkpoints.close()


def chosen_step(
    checkpoints: Checkpoints, newest: int, config: ml_collections.FrozenConfigDict
) -> int:
    """The step whose weights a finished stage gives: ``config.training.use`` last or best."""
    return newest if config.training.use == "last" else checkpoints.best_step() or newest
