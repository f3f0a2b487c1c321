"""What a training will do, in words and in floating-point operations, before it is done."""

import functools
from collections.abc import Mapping, Sequence

import jax
import ml_collections

from diffad_jax.data.layouts import LEAST_HELD_OUT
from diffad_jax.data.split import Split
from diffad_jax.methods.contract import Stage, blank_batch
from diffad_jax.methods.train_state import Weights
from diffad_jax.runtime import flops
from diffad_jax.training.data import Data
from diffad_jax.training.loop import with_steps

Config = ml_collections.FrozenConfigDict


def describe(
    stages: Sequence[Stage], config: Config, photos: Mapping[str, Split], num_photos: int
) -> str:
    """One line: the stages with their lengths, and the photos of one category, or of several."""
    lengths = []
    for stage in stages:
        steps = 0 if stage.fit else with_steps(stage, config, 0, num_photos)[stage.section].steps
        lengths.append(f"{stage.name} ({f'{steps} steps' if steps else 'one pass'})")
    counted = f"{len(stages)} stage{'s' if len(stages) > 1 else ''}: {', '.join(lengths)}"
    train, held_out = (sum(len(p[i]) for p in photos.values()) for i in (0, 1))
    enough = all(len(p.held_out) >= LEAST_HELD_OUT for p in photos.values())
    why = " for the threshold" if enough else ""
    of = f" of {len(photos)} categories" if len(photos) > 1 else ""
    return f"{train} photos{of} to train on, {held_out} held out{why}; {counted}; then evaluation"


def flop_of_stages(
    stages: Sequence[Stage], config: Config, data: Data, earlier_weights: Weights
) -> dict[str, float]:
    """FLOP of all steps of each stage, as ``flops.count``; 0 of one that is fitted.

    Nothing is computed; of ``earlier_weights``, those of stages before, only shapes count.
    """
    weights, found = dict(earlier_weights), {}
    for stage in stages:
        if stage.fit:
            found[stage.name] = 0.0
            weights[stage.name] = stage.weights_shapes(config, weights)
            continue
        settled = with_steps(stage, config, 0, data.num_photos)
        settings, stands_on = stage.settings(settled), weights | data.pretrained(stage)
        batch = jax.tree.map(
            lambda x, b=settings.batch_size: jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype),
            blank_batch(config),
        )
        state = stage.state_shapes(settled, stands_on)
        step = functools.partial(stage.train_step, config=settled)
        found[stage.name] = settings.steps * flops.count(step, state, stands_on, batch)
        weights[stage.name] = jax.eval_shape(stage.weights, state)
    return found
