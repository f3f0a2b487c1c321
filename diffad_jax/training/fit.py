"""Fits the stages that take no gradient steps; saves them like those that do."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import ml_collections
import numpy as np

from diffad_jax.errors import ConfigError
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.train_state import Params
from diffad_jax.training.checkpoint import Checkpoints
from diffad_jax.training.fingerprint import STAGES_BEFORE, fingerprint, weights_hash


def fit_stage(
    stage: Stage,
    config: ml_collections.FrozenConfigDict,
    before: dict[str, Params],
    outside: Callable[[], dict[str, Params]],
    directory: Path,
    photos: Callable[[], Iterator[np.ndarray]],
    described: str,
) -> bool:
    """Fits ``stage`` unless its folder holds it already; says whether there was anything to do.

    Where a stage before has been trained on since, it is fitted again.

    Args:
      stage: what to fit.
      config: the whole config.
      before: weights of the stages before, by name.
      outside: loads what else ``stage.fit`` stands on, if there is anything to do.
      directory: the category's folder; the checkpoint goes to ``directory / NAME``, as step 1 of 1.
      photos: reads the normal training photos, see ``Stage.fit``.
      described: names them, see ``fingerprint.describe_photos``.

    Raises:
      ConfigError: there are several processes.
    """
    if jax.process_count() > 1:
        raise ConfigError(
            f"config.method = {config.method!r} is fitted by one process: start a single one"
        )
    checkpoints = Checkpoints(directory / stage.name, writes=True)
    try:
        step = checkpoints.newest_sound_step()
        if step and checkpoints.fingerprint(step)[STAGES_BEFORE] == weights_hash(before):
            return False
        frozen = before | outside()
        weights = stage.fit(config, photos(), frozen)
        mark = fingerprint(stage, config, frozen, described)
        checkpoints.remove_after(0)
        checkpoints.save(1, None, weights, mark, planned_steps=1, metrics={}, best_by="")
        return True
    finally:
        checkpoints.close()
