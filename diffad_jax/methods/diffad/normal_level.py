"""How high the segmenter's probabilities rise on normal photos, place by place; not in the paper.

Where normal photos differ (a rim, a reflection), a segmenter of few steps suspects something on
each of them. The level is fitted last, in one pass over the normal training photos, and used where
``config.normal_level.floor`` is above 0.
"""

from collections.abc import Iterator

import jax
import ml_collections
import numpy as np

from diffad_jax.methods.contract import Stage
from diffad_jax.methods.diffad import brightness, fields, windows
from diffad_jax.methods.diffad.reconstruct import reconstruct
from diffad_jax.methods.diffad.segment import probabilities
from diffad_jax.methods.train_state import Params, Weights
from diffad_jax.runtime.sharding import over_photos
from diffad_jax.types import AnomalyMaps, Photos, height_width, to_float

NAME = "normal_level"
Config = ml_collections.FrozenConfigDict


def fit(config: Config, photos: Iterator[Photos], earlier_weights: Weights) -> Params:
    """See ``contract.Stage``: {"level": [h, w] float32 in [0, 1]}.

    It is (mean over the photos of mᵖ)^(1/p) of each pixel's m, with p = ``normal_level.power``.
    """
    return extend(config, {"level": np.zeros(height_width(config.image_size))}, 0, photos,
                  earlier_weights)  # fmt: skip


def extend(
    config: Config,
    fitted: Params,
    num_seen: int,
    photos: Iterator[Photos],
    earlier_weights: Weights,
) -> Params:
    """See ``contract.Stage``."""
    power, count = config.normal_level.power, num_seen
    total = num_seen * np.asarray(fitted["level"], np.float64) ** power
    for powers in over_photos(_powers, earlier_weights, photos, config):
        total += np.asarray(powers, np.float64).sum(0)
        count += len(powers)
    return {"level": ((total / count) ** (1.0 / power)).astype(np.float32)}


def relative(anomaly_map: AnomalyMaps, fitted: Params, *, config: Config) -> AnomalyMaps:
    """m / (level + ``normal_level.floor``): a pixel as a multiple of its level.

    A map in [0, 1] becomes one in [0, 1 / floor]; a pixel of a normal photo seldom exceeds 1.
    ``fitted`` is that of ``fit``.
    """
    return anomaly_map / (fitted["level"] + config.normal_level.floor)[None]


def _powers(weights: dict, images: Photos, *, config: Config) -> jax.Array:
    photo = brightness.exposed(weights, to_float(images), config=config)
    parts, key = windows.cut(photo, config=config), jax.random.key(config.seed)
    steps = config.reconstruction.test_steps
    reconstruction = reconstruct(weights, parts, key, config=config, num_steps=steps)
    found = probabilities(weights, reconstruction, parts, config=config)
    return windows.joined(found, config=config) ** config.normal_level.power


STAGE = Stage(
    name=NAME,
    sections=(fields.RECONSTRUCTION.locking("test_steps"), fields.NORMAL_LEVEL),
    fit=fit,
    fitted_shapes=lambda config: {
        "level": jax.ShapeDtypeStruct(height_width(config.image_size), np.float32)
    },
    extend=extend,
)
