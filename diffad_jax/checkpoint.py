"""Checkpoints of a stage: DIR/STEP/{state, weights, fingerprint, plan}, written by Orbax.

``state`` is all that training needs to go on; ``weights`` the small part that later stages and the
detector need; ``fingerprint`` what both depend on, so that nothing unfitting is ever loaded;
``plan`` how many steps the stage is to take.
Orbax writes to a temporary folder and renames it: a checkpoint is there whole or not at all.
"""

import hashlib
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from diffad_jax.train_state import Params, TrainState

# What a stage's result depends on, besides its own ``settings``; the stages before are covered by
# a digest of their weights.
_DATA = ("textures", "resize", "validation_share", "recorded")
_TRAINING = ("compute_dtype", "gradient_clip")
# Raising the steps trains on; steps at test change no weights; a file's place does not matter.
_LEFT_OUT = (
    *(f"{s}.{length}" for s in ("autoencoder", "diffusion", "segmentation")
      for length in ("steps", "epochs")),
    "reconstruction.test_steps",
    "autoencoder.perceptual_file",
)  # fmt: skip
_PERCEPTUAL = "weights of the perceptual network"


class CheckpointError(ValueError):
    """A checkpoint is missing or does not fit; the message names the folder and the remedy."""


def fingerprint(stage: Any, config: ml_collections.FrozenConfigDict, frozen: dict) -> dict:
    """Everything that ``stage``'s weights depend on, as JSON: {field: value}."""
    fields: dict[str, Any] = {"seed": config.seed, "image_size": config.image_size}
    sections = {"synthesis": config.synthesis, "autoencoder": config.autoencoder}
    if stage.NAME != "autoencoder":
        sections["diffusion"] = config.diffusion
    if stage.NAME == "segmenter":
        sections["segmentation"] = config.segmentation
        sections["reconstruction"] = config.reconstruction
    for name, section in sections.items():
        fields |= {f"{name}.{key}": value for key, value in section.items()}
    fields |= {f"data.{key}": config.data[key] for key in _DATA}
    fields |= {f"training.{key}": config.training[key] for key in _TRAINING}
    for left_out in _LEFT_OUT:
        fields.pop(left_out, None)
    fields = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    before = dict(frozen)
    if perceptual := before.pop("perceptual", None):
        fields[_PERCEPTUAL] = digest(perceptual)
    return fields | {"weights of the stages before": digest(before)}


def digest(weights: Params) -> str:
    """SHA-256 over names and values of a tree of arrays."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
    return sha.hexdigest()


class Checkpoints:
    """The checkpoints of one stage; saving goes on in the background."""

    def __init__(self, directory: Path, *, keep: int):
        self.directory = directory.absolute()
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=ocp.checkpoint_managers.LatestN(keep)
            ),
            item_names=("state", "weights", "fingerprint", "plan"),
        )

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def planned_steps(self) -> int | None:
        """How many steps the run that wrote the newest checkpoint was to take."""
        if (step := self.latest_step()) is None:
            return None
        found = self._manager.restore(step, args=ocp.args.Composite(plan=ocp.args.JsonRestore()))
        return found.plan["steps"]

    def save(
        self, step: int, state: TrainState, weights: Params, fingerprint: dict, planned_steps: int
    ) -> None:
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                weights=ocp.args.StandardSave(weights),
                fingerprint=ocp.args.JsonSave(fingerprint),
                plan=ocp.args.JsonSave({"steps": planned_steps}),
            ),
        )

    def restore(self, step: int, item: str, template: Any, fingerprint: dict) -> Any:
        """The item (``state`` or ``weights``) of ``step``, in the shape of ``template``.

        Raises:
          CheckpointError: the checkpoint was written under another ``fingerprint``.
        """
        found = self._manager.restore(
            step, args=ocp.args.Composite(fingerprint=ocp.args.JsonRestore())
        ).fingerprint
        if item == "weights":  # they serve without what only their training needed
            found, fingerprint = (
                {k: v for k, v in d.items() if k != _PERCEPTUAL} for d in (found, fingerprint)
            )
        self._refuse_unfitting(found, fingerprint)
        return self._manager.restore(
            step, args=ocp.args.Composite(**{item: ocp.args.StandardRestore(template)})
        )[item]

    def wait(self) -> None:
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()

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
    """The weights of a finished stage, for the stages after it and for the detector.

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
    checkpoints = Checkpoints(folder, keep=config.training.keep_checkpoints)
    try:
        step = checkpoints.latest_step() or 0
        total = stage.settings(config).steps or checkpoints.planned_steps() or 1
        if step < total:
            raise CheckpointError(
                f"{folder} is at step {step} of {total}: run --mode=train to finish it"
            )
        template = stage.weights(abstract_state(stage, config, frozen))
        return checkpoints.restore(step, "weights", template, fingerprint(stage, config, frozen))
    finally:
        checkpoints.close()
