"""An example of a method: how far each pixel lies from the mean of the normal photos.

As a method of the package it would be ``diffad_jax/methods/mean_photo.py``.
"""

from collections.abc import Iterator

import jax
import ml_collections
import numpy as np

from diffad_jax.config.fields import POSITIVE, Field, section
from diffad_jax.methods.contract import Method, Stage
from diffad_jax.methods.train_state import Params, Weights
from diffad_jax.types import Prediction, to_float

NAME = "mean_photo"
Config = ml_collections.FrozenConfigDict
SECTION = section(
    NAME,
    "The example of a method.",
    floor=Field(0.05, "added to each pixel's standard deviation", POSITIVE),
)


def fit(config: Config, photos: Iterator[np.ndarray], earlier_weights: Weights) -> Params:
    """The mean and the standard deviation of each pixel, [s, s, 3] float32."""
    del earlier_weights
    pixels = np.concatenate([batch / np.float32(255) for batch in photos])
    return {"mean": pixels.mean(0), "width": pixels.std(0) + np.float32(config.mean_photo.floor)}


def predict(
    weights: Weights, images: jax.Array, *, seed: int | jax.Array, config: Config
) -> Prediction:
    """The largest of a pixel's three distances, in standard deviations."""
    del seed, config
    fitted = weights[NAME]
    distances = abs(to_float(images) - fitted["mean"][None]) / fitted["width"][None]
    anomaly_map = distances.max(-1)
    return Prediction(score=anomaly_map.max((1, 2)), anomaly_map=anomaly_map)


METHOD = Method(
    name=NAME,
    sections=(SECTION,),
    stages=lambda config: (Stage(name=NAME, sections=(SECTION,), fit=fit),),
    predict=predict,
    score_map=lambda anomaly_map, config: anomaly_map,
    whole_photos=lambda config: "which knows places of whole photos",
    reconstructs=False,
    needs_synthesis=False,
    describe=lambda config: {"score": "the map's largest value", "map": "standard deviations"},
)
