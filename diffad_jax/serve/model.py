"""The model that scores photos: a work directory's detector, or an exported folder's graph."""

import dataclasses
from collections.abc import Callable, Hashable

import numpy as np

from diffad_jax.data import images
from diffad_jax.data.photo import Rules
from diffad_jax.export import artifact
from diffad_jax.export.exported import ExportedDetector, calibration_of
from diffad_jax.inference.calibration import Calibration
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import get_method
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


def of_exported(detector: ExportedDetector, card: dict) -> Model:
    """The model of an exported folder, which makes no reconstructions."""
    rules, config = card["preprocessing"], detector.config
    shared = tuple(file for file in card["files"] if file.startswith(artifact.SHARED))
    return Model(
        category=card["category"],
        method=card["method"],
        weights=card["weights"],
        mark=card["weights"],
        image_size=tuple(rules["size"]),
        rules=Rules(rules["resize"], rules["bit_depth"], config.data.photo_mib),
        batch_size=config.evaluation.batch_size,
        reconstructs=False,
        program=shared or card["category"],
        predict=detector.predict_all,
        calibration=calibration_of(card),
    )
