"""The detector: photos in, scores and maps out. Runs without TensorFlow."""

import copy
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from diffad_jax.data import bit_depth, corrections
from diffad_jax.data.corrections import Taken
from diffad_jax.methods.computing import compute_dtype
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.registry import get_method, stage_folder
from diffad_jax.methods.train_state import Weights
from diffad_jax.runtime import console
from diffad_jax.runtime.batches import in_batches
from diffad_jax.runtime.compilation import jitted
from diffad_jax.training import checkpoint, fingerprint
from diffad_jax.types import Prediction, height_width


class Detector:
    """A trained method for one category."""

    def __init__(self, config: ml_collections.ConfigDict, weights: dict):
        """``weights`` holds one entry for each stage of ``config.method``, by its name."""
        self.config = ml_collections.FrozenConfigDict(config)
        self.weights_hash = fingerprint.weights_hash(weights)
        self.weights = jax.device_put(weights)
        self.taken: Taken | None = None  # the calibration that inspectors took
        self._trained: Detector | None = None
        self._predict = jitted(get_method(config).predict, self.config, seed=self.config.seed)

    @classmethod
    def from_workdir(
        cls, config: ml_collections.ConfigDict, workdir: str | Path, category: str
    ) -> "Detector":
        """The detector that training left in ``workdir``, with the inspectors' calibration.

        Raises:
          checkpoint.CheckpointError: a stage is missing, unfinished, or of another config.
          layouts.DataError: weights of the inspectors' calibration are lost.
        """
        return cls.as_trained(config, workdir, category).as_inspected(Path(workdir) / category)

    @classmethod
    def as_trained(
        cls, config: ml_collections.ConfigDict, workdir: str | Path, category: str
    ) -> "Detector":
        """The detector that training left in ``workdir``, without it; see ``from_workdir``."""
        config = bit_depth.stored(config, Path(workdir) / category)
        frozen = ml_collections.FrozenConfigDict(config)
        method, directory = get_method(config), Path(workdir) / category
        shared = load_stages(method.shared_stages(frozen), frozen, directory)
        shared = method.seen_by(category, shared, frozen)
        return cls(config, load_stages(method.own_stages(frozen), frozen, directory, shared))

    def as_inspected(self, directory: Path) -> "Detector":
        """A trained detector with the calibration that inspectors took last, see ``recalibrated``.

        It is the detector itself where the category's ``directory`` holds no calibration, or one of
        other weights or settings.
        """
        taken = corrections.present(directory)
        if taken is None:
            return self
        if taken.detector != self.mark:
            console.note(
                f"{directory}: the calibration that {taken.who or 'an inspector'} took is of other "
                "weights or settings and does not count: recalibrate with --mode=serve"
            )
            return self
        return self.recalibrated(corrections.fitted(directory, taken), taken)

    def recalibrated(self, fitted: Weights, taken: Taken | None = None) -> "Detector":
        """A trained detector with the weights of some stages, by their names, in place of its own.

        ``taken`` is the calibration that they belong to, once it has been taken. ``trained`` of the
        copy is this detector.
        """
        found = copy.copy(self)
        found.taken, found._trained = taken, self.trained
        if fitted:
            found.weights = self.weights | jax.device_put(fitted)
            found.weights_hash = fingerprint.weights_hash(found.weights)
        return found

    def fitted_with(self, photos: Iterator[np.ndarray], num_trained: int) -> Weights:
        """The last stage, fitted with more good photos, as ``recalibrated`` takes it.

        Empty where the stage cannot be extended; then no photo is asked for.

        Args:
          photos: batches [b, h, w, 3] uint8 of ``config.image_size``; b at most
            ``config.evaluation.batch_size``.
          num_trained: how many normal photos it was fitted on.
        """
        stage = get_method(self.config).stages(self.config)[-1]
        if stage.extend is None:
            return {}
        earlier = {name: w for name, w in self.weights.items() if name != stage.name}
        fitted = self.weights[stage.name]
        return {stage.name: stage.extend(self.config, fitted, num_trained, photos, earlier)}

    @property
    def trained(self) -> "Detector":
        """This detector as it was before any of its stages was fitted anew."""
        return self._trained or self

    @property
    def mark(self) -> str:
        """A mark of this detector's scores of whole photos; others have other marks."""
        return corrections.mark(self.weights_hash, score_settings(self.config, False))

    @property
    def program(self) -> Hashable:
        """Equal for detectors whose compiled programs are the same."""
        shapes = tuple((x.shape, str(x.dtype)) for x in jax.tree.leaves(self.weights))
        return id(self._predict), shapes

    def predict(self, images: np.ndarray) -> Prediction:
        """Scores photos.

        Args:
          images: [b, h, w, 3] uint8 RGB, resized to ``config.image_size`` by
            ``data.images.read_image``. Each new b is compiled once.

        Raises:
          ValueError: images of another size or type.
        """
        height, width = height_width(self.config.image_size)
        if images.dtype != np.uint8 or images.shape[1:] != (height, width, 3):
            raise ValueError(
                f"images must be [b, {height}, {width}, 3] uint8, got {images.dtype} {images.shape}"
            )
        return self._predict(self.weights, images)

    def predict_all(self, images: np.ndarray, batch_size: int) -> Prediction:
        """``predict`` over any number of photos, in batches of one size; results as NumPy.

        Raises:
          checkpoint.CheckpointError: a score is not finite, so the weights are broken.
        """
        predictions = in_batches(self.predict, [images], batch_size)
        if not np.isfinite(predictions.score).all():
            raise checkpoint.CheckpointError(
                "the detector's scores are not finite: its weights are broken, train again with a "
                "lower learning rate or config.training.gradient_clip"
            )
        return predictions


def load_stages(
    stages: Sequence[Stage],
    config: ml_collections.FrozenConfigDict,
    directory: Path,
    earlier_weights: Weights | None = None,
) -> Weights:
    """The weights of finished stages, by name, beside the earlier ones.

    Args:
      stages: of a method, in turn: the first ones, or those behind ``earlier_weights``.
      config: must agree with the one they were trained with.
      directory: of the category.
      earlier_weights: of the stages before.

    Raises:
      checkpoint.CheckpointError: see ``Detector.from_workdir``.
    """
    weights = dict(earlier_weights or {})
    for stage in stages:
        folder = stage_folder(stage, config, directory)
        weights[stage.name] = checkpoint.load_weights(stage, config, weights, folder)
    return weights


def score_settings(config: ml_collections.ConfigDict, tile: bool) -> dict[str, Any]:
    """What scores depend on, besides the photo and the weights (which fit no other fields).

    The method's own words count too: another version may score otherwise by the same settings.
    Pairs are lists, as in the JSON files that keep the settings, so that they equal those.
    """
    method = get_method(config)
    fields = {
        "method": config.method,
        "seed": config.seed,
        "image_size": config.image_size,
        "data.resize": config.data.resize,
        "training.compute_dtype": compute_dtype(config),
        "tile": tile,
    }
    for field in method.settings:
        section, _, name = field.partition(".")
        fields[field] = config[section][name]
    fields = {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}
    return fields | method.describe(config)
