"""DiffAD as a method: its three stages, and how it predicts."""

import jax
import ml_collections

from diffad_jax.evaluation import score
from diffad_jax.reconstruct import Reconstruction, reconstruct
from diffad_jax.segment import segment
from diffad_jax.stages import STAGES as STAGES
from diffad_jax.types import Prediction, to_float

MAP_RANGE = (0.0, 1.0)  # probabilities
RECONSTRUCTS = SCORE_IS_IN_MAP = True
Config = ml_collections.FrozenConfigDict


def predict(
    weights: dict, images: jax.Array, *, seed: int | jax.Array, config: Config
) -> Prediction:
    """See ``contracts.Method``; the seed is that of the noise, which all photos share."""
    image = to_float(images)
    key = jax.random.key(seed)
    repaired = reconstruct(
        weights, image, key, config=config, num_steps=config.reconstruction.test_steps
    )
    return judge(weights, image, repaired, config=config)


def judge(
    weights: dict, image: jax.Array, repaired: Reconstruction, *, config: Config
) -> Prediction:
    """The last part of ``predict``: segments, and scores the map. ``image`` is in [0, 1]."""
    logits = segment(weights["segmenter"], repaired, image, config=config)
    anomaly_map = jax.nn.softmax(logits)[..., 1]
    c = config.evaluation
    return Prediction(
        score=score.image_score(anomaly_map, c.smoothing, c.smoothing_power),
        anomaly_map=anomaly_map,
        reconstruction=repaired.reconstruction,
        interpolated=repaired.interpolated,
    )


def score_map(anomaly_map: jax.Array, *, config: Config) -> jax.Array:
    """See ``contracts.Method``."""
    c = config.evaluation
    return score.power_mean_filter(anomaly_map, c.smoothing, c.smoothing_power)


def in_words(config: Config) -> dict[str, str]:
    """What a reader of a report must know of the method."""
    c, e = config.reconstruction, config.evaluation
    return {
        "score": score.in_words(e.smoothing, e.smoothing_power),
        "reconstruction": f"{c.test_steps} DDIM steps, {c.spacing}, {c.condition} condition",
    }
