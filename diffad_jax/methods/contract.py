"""The contract of methods and stages: all that the rest of the program knows of them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from jaxtyping import Float

from diffad_jax.config.fields import PREDICTION, Section
from diffad_jax.methods.train_state import Params, TrainState, Weights
from diffad_jax.runtime.compilation import jitted
from diffad_jax.runtime.download import Remote
from diffad_jax.types import (
    LABEL_SIZE,
    AnomalyMaps,
    Array,
    Batch,
    Photos,
    Prediction,
    Validation,
    height_width,
)

Config = ml_collections.FrozenConfigDict


class Pretrained(NamedTuple):
    """A pretrained network that a stage learns with."""

    name: str  # of its weights among the earlier ones
    fields: tuple[str, ...]  # of the config, which name their files
    network: nn.Module
    package: str = ""  # of pip, that carries the weights where the field names no file
    published: tuple[Remote, ...] = ()  # what each field fetches where it is DOWNLOAD


class Init(Protocol):
    def __call__(
        self, config: Config, key: jax.Array, earlier_weights: Weights, batch: Batch
    ) -> TrainState: ...


class Step(Protocol):
    def __call__(
        self, state: TrainState, earlier_weights: Weights, batch: Batch, *, config: Config
    ) -> tuple[TrainState, dict[str, Float[Array, ""]]]: ...


class Validate(Protocol):
    def __call__(self, weights: Weights, batch: Batch, *, config: Config) -> Validation: ...


class Predict(Protocol):
    def __call__(
        self, weights: Weights, images: Photos, *, seed: int | jax.Array, config: Config
    ) -> Prediction: ...


class Telling(NamedTuple):
    """How photos are told apart that show products of several categories.

    Attributes:
      network: (weights of the stages) -> the part of them that ``features`` takes.
      features: (that part, images as for ``Method.predict``, *, config) -> what is compared.
      distance: (weights of a category's stages, features, *, config) -> how far whole photos are
        from the category's normal ones, in any unit.
    """

    network: Callable[[Weights], Weights]
    features: Callable[..., Float[Array, "b ..."]]
    distance: Callable[..., Float[Array, " b"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a method, trained step by step, or by ``fit`` in one pass over normal photos.

    A stage with ``fit`` needs none of the fields below it, any other stage needs all.

    Attributes:
      name: names its folder, and its weights among those of all stages.
      sections: the sections of the config on which its weights depend.
      pretrained: the network that it learns with; None for none, or where it is off.
      fit: (config, photos, earlier_weights) -> the weights that prediction needs, as NumPy arrays
        in nested dictionaries. ``photos`` are batches, uint8, of the normal training photos, each
        photo once; the last batch may be smaller.
      fitted_shapes: config -> the shapes of ``fit``'s result; None where they depend on the photos.
      join: (``fit``'s result for each of several categories) -> the weights for all, where these
        share one set of networks. None where ``fit`` sees the photos of all.
      extend: (config, fitted, num_seen, photos, earlier_weights) -> the result that ``fit`` would
        give for ``photos`` and the ``num_seen`` photos behind ``fitted``. None where it would have
        to see all photos again.
      section: the config's section on its training: steps, batch size, optimiser.
      init_state: a fresh state; pure but for the shapes that ``config`` gives.
      train_step: one step; its metrics are scalars, ``loss`` among them. Where the config has the
        length in epochs, ``steps`` of its section is an array, Int32[Array, ""].
      weights: the part of a state that later stages and the detector need.
      networks: config -> the networks in its state, by name; building a module costs nothing.
      state_from_weights: a fresh state with the variables of trained networks, {network:
        {collection: …}}, in place of its own.
      validate: metrics on held-out examples; ``weights`` are those of all stages so far.
      best_by: the metric of ``validate`` that makes a checkpoint the best: larger is better.
    """

    name: str
    sections: tuple[Section, ...]
    pretrained: Callable[[Config], Pretrained | None] = lambda config: None
    fit: Callable[[Config, Iterator[Photos], Weights], Params] | None = None
    fitted_shapes: Callable[[Config], Params | None] = lambda config: None
    join: Callable[[Sequence[Params]], Params] | None = None
    extend: Callable[[Config, Params, int, Iterator[Photos], Weights], Params] | None = None
    section: str = ""
    init_state: Init | None = None
    train_step: Step | None = None
    weights: Callable[[TrainState], Params] | None = None
    networks: Callable[[Config], dict[str, nn.Module]] = lambda config: {}
    state_from_weights: Callable[[TrainState, Weights], TrainState] | None = None
    validate: Validate | None = None
    best_by: str = ""

    def settings(self, config: Config) -> Config:
        """The config's section on its training."""
        return config[self.section]

    def num_steps(self, config: Config) -> int:
        """The number of its steps; 0 where the config counts in epochs."""
        return 1 if self.fit else self.settings(config).steps

    def state_shapes(self, config: Config, earlier_weights: Weights) -> TrainState:
        """The shapes of its state; nothing is computed. Not for a stage with ``fit``."""
        return self.initialised(config).eval_shape(
            jax.random.key(0), earlier_weights, blank_batch(config)
        )

    def initialised(self, config: Config, out_shardings: Any = None) -> Callable[..., TrainState]:
        """``init_state`` compiled: (key, earlier weights, batch) -> a fresh state."""
        return jitted(
            _init, config, of_stage=self.init_state, out_shardings=out_shardings, runs_once=True
        )

    def weights_shapes(self, config: Config, earlier_weights: Weights) -> Params | None:
        """The shapes of its weights; None where they depend on the photos."""
        if self.fit:
            return self.fitted_shapes(config)
        return jax.eval_shape(self.weights, self.state_shapes(config, earlier_weights))


def _init(
    key: jax.Array, earlier_weights: Weights, batch: Batch, *, config: Config, of_stage: Init
) -> TrainState:
    return of_stage(config, key, earlier_weights, batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A method that ``config.method`` can name.

    Attributes:
      name: its name in configs.
      sections: the sections of the config that it reads, besides those of every method.
      check: raises ConfigError for fields that do not go together.
      stages: in the order in which they train.
      predict: (weights of the stages; images; the seed of its random numbers, uint32 where it is
        an array; static config). Pure: a photo's result depends neither on its batch nor on the
        run.
      of_category: (weights of the shared stages, a category's name) -> the same as this category's
        detector uses them, where ``config.shared_label`` is known. None where no network of the
        method takes a label.
      tell: config -> how photos of several categories are told apart; None where nothing does.
      parts: the steps of ``predict`` by name and in turn, each (weights, value, *, seed, config) ->
        value. The first takes the images in [0, 1], the last returns the prediction. Empty where
        ``predict`` has no separate steps.
      score_map: (anomaly_map of any size, *, config) -> the map whose largest value is the score.
        None where the score is no value of a map; then photos cannot be put together from windows.
      whole_photos: config -> the reason why photos cannot be cut into windows; empty if they can.
      map_range: the map's values of the first and of the last colour. With None, normal photos
        decide.
      reconstructs: whether a prediction holds a reconstruction.
      needs_synthesis: whether it learns from examples with synthetic anomalies.
      describe: notes on it for readers of a report: "score", and any others.
    """

    name: str
    sections: tuple[Section, ...]
    check: Callable[[Config], None] = lambda config: None
    stages: Callable[[Config], tuple[Stage, ...]]
    predict: Predict
    of_category: Callable[[Weights, str], Weights] | None = None
    tell: Callable[[Config], Telling | None] = lambda config: None
    parts: tuple[tuple[str, Callable], ...] = ()
    score_map: Callable[..., AnomalyMaps] | None
    whole_photos: Callable[[Config], str] = lambda config: ""
    map_range: Callable[[Config], tuple[float, float] | None] = lambda config: None
    reconstructs: bool
    needs_synthesis: bool
    describe: Callable[[Config], dict[str, str]]

    def shared_stages(self, config: Config) -> tuple[Stage, ...]:
        """What categories have in common where ``config.shared``.

        That is all up to the last network, or up to the stage that ``config.shared_stages`` names.
        Empty where nothing is trained by steps, or nothing is shared.
        """
        stages = self.stages(config) if config.shared else ()
        for i, stage in enumerate(stages, start=1):
            if stage.name == config.shared_stages:
                return stages[:i]
        last = max((i for i, stage in enumerate(stages, start=1) if not stage.fit), default=0)
        return stages[:last]

    def own_stages(self, config: Config) -> tuple[Stage, ...]:
        """What is fitted behind ``shared_stages``: each category's own."""
        return self.stages(config)[len(self.shared_stages(config)) :]

    def seen_by(self, category: str, shared: Weights, config: Config) -> Weights:
        """The weights of ``shared_stages`` as a category's detector and its own stages see them."""
        return self.of_category(shared, category) if config.shared_label == "known" else shared

    @property
    def settings(self) -> tuple[str, ...]:
        """Its own fields that predictions depend on, besides the weights."""
        return tuple(n for s in self.sections for n, field in s.dotted() if field.use == PREDICTION)


def blank_batch(config: Config) -> Batch:
    """One black example, to learn shapes from."""
    size = height_width(config.image_size)
    pixels = np.zeros((1, *size, 3), np.uint8)
    batch: Batch = {
        "image": pixels,
        "augmented_image": pixels,
        "anomaly_mask": np.zeros((1, *size, 1), np.uint8),
    }
    if config.shared_label == "known":
        batch["label"] = np.zeros((1, LABEL_SIZE), np.float32)
    return batch
