"""Fits the stages that take no gradient steps; saves them like those that do."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import ml_collections
import numpy as np

from diffad_jax.errors import ConfigError
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.train_state import Weights
from diffad_jax.runtime import console
from diffad_jax.runtime.progress import CountProgress
from diffad_jax.training.checkpoint import Checkpoints
from diffad_jax.training.data import Data, Outcome
from diffad_jax.training.fingerprint import (
    STAGES_BEFORE,
    fingerprint,
    pretrained_changed,
    weights_hash,
)


def fit_stage(
    stage: Stage,
    config: ml_collections.FrozenConfigDict,
    earlier_weights: Weights,
    directory: Path,
    data: Data,
    title: str,
    retrain: bool = False,
) -> Outcome:
    """Fits ``stage`` unless its folder holds it already.

    Where a stage before has been trained on since, it is fitted again. Several processes all fit,
    and share the work of the networks.

    Args:
      stage: what to fit.
      config: the whole config.
      earlier_weights: those of the stages before, by name.
      directory: the category's folder; the checkpoint goes to ``directory / NAME``, as step 1 of 1.
      data: the normal photos.
      title: for the progress bar.
      retrain: fit again where the pretrained network is another one by now.

    Raises:
      checkpoint.CheckpointError: the folder holds a checkpoint of another config.
    """
    with contextlib.closing(Checkpoints(directory / stage.name, writes=True)) as checkpoints:
        step = checkpoints.newest_sound_step()
        found = checkpoints.fingerprint(step) if step else {}
        fits = found.get(STAGES_BEFORE) == weights_hash(earlier_weights)
        if fits and (changed := _pretrained_changed(stage, config, earlier_weights, data, found)):
            fits = not retrain
            if fits:
                console.note(
                    f"{directory / stage.name}: the {changed} have changed since; --retrain fits "
                    "it anew"
                )
        if fits:
            wanted = fingerprint(stage, config, earlier_weights)
            weights = checkpoints.restore(step, "weights", None, wanted, for_training=False)
            return Outcome(weights, {}, trained=False)
        stands_on = earlier_weights | data.pretrained(stage)
        console.note(f"{title}: one pass over {data.num_train} photos")
        with CountProgress(data.num_train, title=title) as progress:
            photos = [_counted(of_category(), progress) for of_category in data.normal_photos]
            if config.shared and stage.join:
                weights = stage.join([stage.fit(config, own, stands_on) for own in photos])
            else:
                weights = stage.fit(config, itertools.chain(*photos), stands_on)
        made_of = fingerprint(stage, config, stands_on, data.photos)
        checkpoints.remove_after(0)
        checkpoints.save(1, None, weights, made_of, planned_steps=1, metrics={}, best_by="")
        return Outcome(weights, {}, trained=True)


def _counted(batches: Iterator[np.ndarray], progress: CountProgress) -> Iterator[np.ndarray]:
    """``batches``; one counts as done when the next one is asked for."""
    for batch in batches:
        yield batch
        progress.update(len(batch))


def _pretrained_changed(
    stage: Stage,
    config: ml_collections.FrozenConfigDict,
    earlier_weights: Weights,
    data: Data,
    found: dict,
) -> str:
    """As ``pretrained_changed``; empty where there is no file any more, which is not needed."""
    try:
        now = earlier_weights | data.pretrained(stage)
    except ConfigError:
        return ""
    return pretrained_changed(found, fingerprint(stage, config, now))
