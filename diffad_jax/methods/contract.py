"""What a method and its stages must offer; a module with these names offers them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import ml_collections
import numpy as np

from diffad_jax.methods.train_state import Params, TrainState
from diffad_jax.types import Batch, Prediction, Validation

Config = ml_collections.FrozenConfigDict


class Stage(Protocol):
    """What is trained step by step. ``frozen`` holds the weights of the stages before.

    Attributes:
      NAME: of its folder, and of its weights among those of the others.
      SECTIONS: of the config, on which its weights depend.
      BEST_BY: the metric of ``validate`` that makes a checkpoint the best: larger is better.
    """

    NAME: str
    SECTIONS: tuple[str, ...]
    BEST_BY: str

    def settings(self, config: Config) -> Config: ...
    def init_state(
        self, config: Config, key: jax.Array, frozen: dict[str, Params], batch: Batch
    ) -> TrainState: ...
    def train_step(
        self, state: TrainState, frozen: dict[str, Params], batch: Batch, *, config: Config
    ) -> tuple[TrainState, dict[str, jax.Array]]: ...
    def weights(self, state: TrainState) -> Params: ...
    def validate(
        self, weights: dict[str, Params], batch: Batch, *, config: Config
    ) -> Validation: ...


class FittedStage(NamedTuple):
    """What is fitted in one pass over the normal photos, without gradients.

    Attributes:
      NAME, SECTIONS: as of ``Stage``.
      fit: (config, photos, frozen) -> the weights, all that prediction needs, as NumPy arrays in
        nested dictionaries. ``photos`` are batches [b, s, s, 3] uint8 RGB of the normal training
        photos, each photo once; the last batch may be smaller. ``frozen`` holds the weights of the
        stages before, or {"backbone": its parameters} where a method has one.
    """

    NAME: str
    SECTIONS: tuple[str, ...]
    fit: Callable[[Config, Iterator[np.ndarray], dict[str, Params]], Params]


class Method(Protocol):
    """What ``config.method`` names.

    Attributes:
      RECONSTRUCTS: whether a prediction holds a reconstruction.
      SCORE_IS_IN_MAP: whether the score is the largest value of ``score_map``; otherwise photos
        cannot be put together from windows, and no mask fits the threshold.
    """

    RECONSTRUCTS: bool
    SCORE_IS_IN_MAP: bool

    def stages(self, config: Config) -> Sequence[Stage | FittedStage]:
        """In the order in which they train."""
        ...

    def map_range(self, config: Config) -> tuple[float, float] | None:
        """The map's values that pictures show as black and as yellow.

        None has them chosen on normal photos, see ``threshold.load_map_range``.
        """
        ...

    def score_map(self, anomaly_map: jax.Array, *, config: Config) -> jax.Array:
        """What the score is the largest value of: [b, h, w] -> [b, h, w], of any size.

        Only where ``SCORE_IS_IN_MAP``.
        """
        ...

    def predict(
        self, weights: dict, images: jax.Array, *, seed: int | jax.Array, config: Config
    ) -> Prediction:
        """Pure: a photo's result depends neither on its batch nor on the run.

        Args:
          weights: the stages', by name.
          images: [b, s, s, 3] RGB in 0 … 255, uint8 or float32.
          seed: of what the method draws, if anything; uint32 where it is an array.
          config: static.
        """
        ...

    def describe(self, config: Config) -> dict[str, str]:
        """What a reader of a report must know of the method: "score", and what else there is."""
        ...


def is_fitted(stage: Any) -> bool:
    """Whether a stage is a ``FittedStage``."""
    return isinstance(stage, FittedStage)
