"""The model that scores photos: a work directory's detector, or an exported folder's graph."""

import dataclasses
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np

from diffad_jax.data import images
from diffad_jax.data.photo import Rules
from diffad_jax.errors import ConfigError
from diffad_jax.export import artifact, registry
from diffad_jax.inference.calibration import Calibration
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime.batches import in_batches
from diffad_jax.types import Prediction, height_width


@dataclasses.dataclass(frozen=True)
class Model:
    """The model of one category."""

    category: str
    method: str
    weights: str  # their hash
    mark: str  # tells apart what models say of photos
    image_size: tuple[int, int]  # (height, width) of what it sees, in pixels
    rules: Rules  # by which photos are read
    batch_size: int  # the most photos of a batch
    reconstructs: bool
    program: Hashable  # equal for models that are compiled together
    # (images [b, *image_size, 3] uint8, batch size ≥ b) -> results of b photos as NumPy
    predict: Callable[[np.ndarray, int], Prediction]
    calibration: Calibration


def of_detector(detector: Detector, calibration: Calibration) -> Model:
    """The model of a work directory."""
    config = detector.config
    return Model(
        category=config.categories[0],
        method=config.method,
        weights=detector.weights_hash,
        mark=detector.mark,
        image_size=height_width(config.image_size),
        rules=images.rules(config.data),
        batch_size=config.evaluation.batch_size,
        reconstructs=get_method(config).reconstructs,
        program=detector.program,
        predict=detector.predict_all,
        calibration=calibration,
    )


def of_exported(folder: Path, batch_size: int, photo_mib: float) -> Model:
    """The model of an exported folder, which makes no reconstructions.

    Args:
      folder: holds the graph and its card.
      batch_size: the most photos of a batch.
      photo_mib: the most that a photo's pixels may take.

    Raises:
      ConfigError: the folder is damaged, or its runtime is not installed.
    """
    try:
        card = artifact.read_card(folder)
        detect = registry.load(folder, card)
    except artifact.ArtifactError as error:
        raise ConfigError(str(error)) from error

    def run(pixels: np.ndarray) -> Prediction:
        found = detect(pixels, card["seed"])
        return Prediction(np.asarray(found["score"]), np.asarray(found["anomaly_map"]))

    def predict(pixels: np.ndarray, size: int) -> Prediction:
        found = in_batches(run, [pixels], size)
        if not np.isfinite(found.score).all():
            raise ConfigError(f"{folder}: scores are not finite, the weights are broken")
        return found

    rules = card["preprocessing"]
    return Model(
        category=card["category"],
        method=card["method"],
        weights=card["weights"],
        mark=card["weights"],
        image_size=tuple(rules["size"]),
        rules=Rules(rules["resize"], rules["bit_depth"], photo_mib),
        batch_size=batch_size,
        reconstructs=False,
        program=tuple(f for f in card["files"] if f.startswith(artifact.SHARED)) or str(folder),
        predict=predict,
        calibration=_calibration(card),
    )


def _calibration(card: dict) -> Calibration:
    limit, outlined = card["threshold"], card["pixel_threshold"]
    return Calibration(
        threshold=limit and limit["value"],
        map_range=(card["colours"]["low"], card["colours"]["high"]),
        false_alarm_rate=limit["false_alarm_rate"] if limit else 0.0,
        num_held_out_normal=limit["num_held_out_normal"] if limit else 0,
        max_windows=1,
        pixel_threshold=outlined and outlined["value"],
        num_accepted=limit["num_accepted"] if limit else 0,
    )
