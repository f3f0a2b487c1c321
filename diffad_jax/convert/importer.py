"""Other people's trained weights become finished stages of ours."""

import contextlib
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from diffad_jax.convert import sources, torch_weights
from diffad_jax.convert.errors import ConvertError
from diffad_jax.convert.sources import AUTOENCODER, DIFFUSERS, NETWORKS, RECONSTRUCTOR_AND_SEGMENTER
from diffad_jax.data.layouts import DataError
from diffad_jax.methods.contract import Stage, blank_batch
from diffad_jax.methods.registry import get_method
from diffad_jax.methods.train_state import Params, Weights
from diffad_jax.runtime import console, lock
from diffad_jax.training import checkpoint, loop
from diffad_jax.training.fingerprint import fingerprint
from diffad_jax.training.held_out import load_split

Config = ml_collections.FrozenConfigDict


def import_file(
    config: ml_collections.ConfigDict, workdir: Path, path: Path, second: Path | None = None
) -> None:
    """Writes the stages that ``path`` holds, finished, as if they had been trained in ``workdir``.

    Args:
      config: describes the networks; names one category. ``config.autoencoder.signed`` says whether
        latent-diffusion's autoencoder takes RGB in [-1, 1] (kl-f8) or BGR in [0, 1] (DiffAD),
        because its files do not.
      workdir: must hold none of these stages yet; for a segmenter, the two before it.
      path: a file of any kind in ``sources``.
      second: the other one of DRAEM's two files, in either order.

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
    if config.shared:
        raise ConvertError("imported weights are those of one category: leave --config.shared away")
    directory = Path(workdir) / config.categories[0]
    tensors, source = _read(path, second)
    kind = sources.recognise(tensors, source)
    if second is not None and kind != RECONSTRUCTOR_AND_SEGMENTER:
        raise ConvertError(
            f"{second}: --second_input is for DRAEM, whose networks are in two files"
        )
    stages = torch_weights.stages_of(frozen_config, NETWORKS[kind], source).values()
    imported = list(dict.fromkeys(stage.name for stage in stages))
    parts = torch_weights.convert(frozen_config, tensors, source)
    convention = _convention(kind, frozen_config)
    weights: dict = {}
    with lock.hold(directory):
        for name in imported:
            _refuse_existing(directory / name)
        for stage in get_method(config).stages(frozen_config):
            if stage.name in imported:
                weights[stage.name] = _save(stage, frozen_config, weights, directory, parts)
                console.say(f"{directory / stage.name}: from {source}, {convention}")
                imported.remove(stage.name)
            elif imported:  # they depend on it
                weights[stage.name] = checkpoint.load_weights(
                    stage, frozen_config, weights, directory
                )
        _hold_out(frozen_config, directory)


def _read(path: Path, second: Path | None) -> tuple[dict[str, np.ndarray], str]:
    """The tensors of one file or of two, and their name in messages."""
    tensors = sources.read(path)
    if second is None:
        return tensors, str(path)
    source, others = f"{path} with {second}", sources.read(second)
    if both := sorted(tensors.keys() & others.keys()):
        raise ConvertError(f"{source}: both hold {both[0]}, so they are not DRAEM's two networks")
    return tensors | others, source


def _hold_out(config: Config, directory: Path) -> None:
    """Decides which photos choose the threshold, if there are photos yet."""
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
    steps = stage.num_steps(config) or 1  # where it counts epochs, any number will do
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
