"""What the training of a stage takes and gives."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from diffad_jax.methods.contract import Stage
from diffad_jax.methods.train_state import Params, Weights
from diffad_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What the stages of a category learn from."""

    # (stage's name, first step, batch size) -> own share of each
    batches: Callable[[str, int, int], Iterator[Batch]]
    held_out: Callable[[], Batch]  # examples on held-out photos, whole in every process
    normal_photos: Callable[[], Iterator[np.ndarray]]  # for ``Stage.fit``
    num_photos: int  # normal ones, on which an epoch's length depends
    num_train: int  # of these, in ``normal_photos``
    photos: str  # names them, for the fingerprint
    recording: str = ""  # names the recording that examples come from, if they do
    pretrained: Callable[[Stage], Weights] = lambda stage: {}  # loads what the stage learns with


class Outcome(NamedTuple):
    """A stage that is finished."""

    weights: Params
    # On held-out photos, None where undefined; none for imported and for fitted weights.
    metrics: dict[str, float | None]
    trained: bool  # whether anything was left to do
