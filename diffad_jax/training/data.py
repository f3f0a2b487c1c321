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
    """What stages learn from: the photos of a category, or of several that share them."""

    # (stage's name, first step, batch size) -> own share of each
    batches: Callable[[str, int, int], Iterator[Batch]]
    held_out: Callable[[], Batch]  # examples on held-out photos, whole in every process
    # For ``Stage.fit``, those of each category.
    normal_photos: tuple[Callable[[], Iterator[np.ndarray]], ...]
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
