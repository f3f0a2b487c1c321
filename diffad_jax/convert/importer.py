"""Other people's trained weights become finished stages of ours."""

import contextlib
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections

from diffad_jax.convert import sources, torch_weights
from diffad_jax.convert.errors import ConvertError
from diffad_jax.convert.sources import AUTOENCODER, DIFFUSERS, LATENT_DIFFUSION, SEGMENTER
from diffad_jax.data.layouts import DataError
from diffad_jax.methods import draem
from diffad_jax.methods.contract import Stage, blank_batch
from diffad_jax.methods.diffad import STAGES
from diffad_jax.methods.train_state import Params, Weights
from diffad_jax.runtime import console, lock
from diffad_jax.training import checkpoint, loop
from diffad_jax.training.fingerprint import fingerprint
from diffad_jax.training.held_out import load_split

Config = ml_collections.FrozenConfigDict

_WRITES = {
    AUTOENCODER: ("autoencoder",),
    DIFFUSERS: ("autoencoder",),
    LATENT_DIFFUSION: ("autoencoder", "denoiser"),
    SEGMENTER: ("segmenter",),
}


def import_file(
    config: ml_collections.ConfigDict, workdir: Path, path: Path, second: Path | None = None
) -> None:
    """Writes the stages that ``path`` holds, finished, as if they had been trained in ``workdir``.

    Args:
      config: describes the networks; names one category. latent-diffusion's autoencoder files do
        not tell whether they take BGR in [0, 1] (DiffAD) or RGB in [-1, 1] (kl-f8):
        ``config.autoencoder.signed`` decides.
      workdir: must hold none of these stages yet; for a segmenter, the two before it.
      path: a file of any kind in ``sources``.
      second: for DRAEM the other one of its two files, in any order.

    Raises:
      ConvertError: the file is unreadable, unknown, or does not fit the config; ``workdir`` holds
        such a stage; several categories are configured.
      checkpoint.CheckpointError: a stage before is missing.
      lock.LockedError: another process writes to the category's folder.
    """
    frozen_config = ml_collections.FrozenConfigDict(config)
    if len(config.categories) != 1:
        raise ConvertError(
            f"weights belong to one category: --config.categories={config.categories[0]}"
        )
    directory = Path(workdir) / config.categories[0]
    if config.method == "draem":
        if second is None:
            raise ConvertError("DRAEM's two networks are in two files: name the other one with "
                               "--second_input")  # fmt: skip
        _import_draem(frozen_config, directory, path, second)
        return
    if second is not None:
        raise ConvertError(
            f"{second}: --second_input is for DRAEM, whose networks are in two files"
        )
    torch_weights.require_diffad(config)
    tensors = sources.read(path)
    kind = sources.recognise(tensors, str(path))
    parts = torch_weights.convert(frozen_config, tensors, str(path))
    weights: dict = {}
    with lock.hold(directory):
        for name in _WRITES[kind]:
            _refuse_existing(directory / name)
        for stage in STAGES:
            if stage.name in _WRITES[kind]:
                weights[stage.name] = _save(stage, frozen_config, weights, directory, parts)
                console.say(
                    f"{directory / stage.name}: from {path}, {_convention(kind, frozen_config)}"
                )
            elif kind == SEGMENTER:
                weights[stage.name] = checkpoint.load_weights(
                    stage, frozen_config, weights, directory
                )
        _hold_out(frozen_config, directory)


def _import_draem(config: Config, directory: Path, path: Path, second: Path) -> None:
    first_tensors, second_tensors = sources.read(path), sources.read(second)
    files = f"{path} with {second}"
    if both := sorted(first_tensors.keys() & second_tensors.keys()):
        raise ConvertError(f"{files}: both hold {both[0]}, so they are not DRAEM's two networks")
    tensors = first_tensors | second_tensors
    parts = torch_weights.convert_draem(config, tensors, files)
    with lock.hold(directory):
        _refuse_existing(directory / draem.STAGE.name)
        _save(draem.STAGE, config, {}, directory, parts)
        _hold_out(config, directory)
    console.say(f"{directory / draem.STAGE.name}: from {files}, read as trained on BGR in [0, 1]")


def _hold_out(config: Config, directory: Path) -> None:
    """Settles which photos choose the threshold, where there are any yet."""
    with contextlib.suppress(DataError):
        load_split(config, directory, config.categories[0])


def _refuse_existing(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise ConvertError(
            f"{folder} already holds a checkpoint: choose another --workdir, or delete it"
        )


def _convention(kind: str, config: Config) -> str:
    if kind == DIFFUSERS or (kind == AUTOENCODER and config.autoencoder.signed):
        return "read as trained on RGB in [-1, 1]"
    return "read as trained on BGR in [0, 1]"


def _save(
    stage: Stage, config: Config, earlier_weights: Weights, directory: Path, parts: dict
) -> Params:
    """Writes a finished checkpoint and returns the stage's weights."""
    steps = stage.num_steps(config) or 1  # where it counts epochs: as good as any number
    init = jax.jit(functools.partial(stage.init_state, config))
    fresh = init(loop.stage_key(config, stage.name), earlier_weights, blank_batch(config))
    state = stage.state_from_weights(fresh, jax.device_put(parts))
    state = state.replace(step=jnp.asarray(steps, jnp.int32))
    weights = stage.weights(state)
    wanted = fingerprint(stage, config, earlier_weights)
    folder = directory / stage.name
    with contextlib.closing(checkpoint.Checkpoints(folder, writes=True)) as checkpoints:
        checkpoints.save(
            steps, state, weights, wanted, planned_steps=steps, metrics={}, best_by=stage.best_by
        )
        checkpoints.wait()
    return weights
