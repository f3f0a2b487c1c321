"""PaDiM (Defard et al., ICPR 2020 workshops): a Gaussian of features at each position.

A photo's features at a position come from several layers of a pretrained network, reduced to a few
dimensions. Their mean and covariance over normal photos are kept. A photo's map holds its
Mahalanobis distances to them.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Float

from diffad_jax.config.fields import COUNT, POSITIVE, PREDICTION, Field, section
from diffad_jax.errors import UserError
from diffad_jax.methods import backbone
from diffad_jax.methods.contract import Method, Stage, Telling
from diffad_jax.methods.train_state import Params, Weights
from diffad_jax.models.gaussian import Statistics, merge
from diffad_jax.runtime.sharding import over_photos
from diffad_jax.types import (
    AnomalyMaps,
    Array,
    FeatureMaps,
    Photos,
    Prediction,
    height_width,
)

NAME = "padim"
Config = ml_collections.FrozenConfigDict
SECTION = section(
    NAME,
    "As published for ResNet-18.",
    reduction=Field(
        "random",
        "random choice of channels | orthogonal projection",
        choices=("random", "orthogonal"),
    ),
    dimensions=Field(100, "of the reduced features; memory grows with their square", COUNT),
    regularisation=Field(0.01, "added to the covariances' diagonal", POSITIVE),
    smoothing_sigma=Field(
        4.0, "of the Gaussian filter over the map, in pixels", POSITIVE, use=PREDICTION
    ),
)


def no_statistics(positions: int, dimensions: int) -> Statistics:
    """The statistics of no photo, float32, from which ``updated`` starts."""
    return Statistics(
        count=jnp.zeros(()),
        mean=jnp.zeros((positions, dimensions)),
        scatter=jnp.zeros((positions, dimensions, dimensions)),
    )


def updated(statistics: Statistics, features: Float[Array, "b p d"]) -> Statistics:
    """The statistics with the features of more photos."""
    mean = features.mean(0)
    centred = features - mean[None]
    scatter = jnp.einsum("bpi,bpj->pij", centred, centred, precision="highest")
    return merge(statistics, Statistics(len(features), mean, scatter))


_update = jax.jit(updated, donate_argnums=0)


@functools.partial(jax.jit, static_argnames="regularisation")
def whitening(statistics: Statistics, regularisation: float) -> Float[Array, "p d d"]:
    """W with Wᵀ W the inverse of the covariance + regularisation · I, at least 2 photos.

    With it a Mahalanobis distance is the length of W (x - mean), never the root of a negative.
    """
    d = statistics.mean.shape[-1]
    root = jnp.linalg.cholesky(statistics.covariance + regularisation * jnp.eye(d)[None])
    identity = jnp.broadcast_to(jnp.eye(d)[None], root.shape)
    return jax.scipy.linalg.solve_triangular(root, identity, lower=True)


def mahalanobis(
    features: Float[Array, "b p d"], mean: Float[Array, "p d"], whiten: Float[Array, "p d d"]
) -> Float[Array, "b p"]:
    """The distance of each position's features to their normal mean."""
    # A product at each position, with the photos as columns: faster on CPUs for many of them.
    columns = jnp.transpose(features - mean[None], (1, 2, 0))
    residual = jnp.matmul(whiten, columns, precision="highest")
    return jnp.sqrt(jnp.sum(residual**2, axis=1)).T


def projections(config: Config) -> list[Float[np.ndarray, "_ d"]]:
    """A matrix for each layer; together they reduce the layers' channels to d dimensions.

    ``random`` chooses channels (the paper); ``orthogonal`` mixes them by a matrix with orthonormal
    columns (Kim et al., BMVC 2021).
    """
    c, channels = config.padim, [shape[-1] for shape in backbone.map_shapes(config)]
    total, d = sum(channels), min(config.padim.dimensions, sum(channels))
    rng = np.random.default_rng(config.seed)
    if c.reduction == "random":
        matrix = np.eye(total)[:, np.sort(rng.permutation(total)[:d])]
    else:
        matrix = np.linalg.qr(rng.standard_normal((total, d)))[0]
    return np.split(matrix.astype(np.float32), list(itertools.accumulate(channels))[:-1])


def features(params: Params, images: Photos, *, config: Config) -> Float[Array, "b _ _ d"]:
    """The layers at the largest map's size, reduced.

    Each layer is reduced before it is enlarged (to the nearest position, as in the paper). The
    result is the same, in a fraction of the memory.
    """
    layers = backbone.maps(params, images, config=config)
    total = jnp.zeros((1, 1, 1, 1))
    for layer, matrix in zip(layers, projections(config), strict=True):
        part = jnp.einsum("bhwc,cd->bhwd", layer, jnp.asarray(matrix), precision="highest")
        size = (part.shape[0], *backbone.largest(layers), part.shape[-1])
        total += jax.image.resize(part, size, "nearest")
    return total


def fit(config: Config, photos: Iterator[Photos], earlier_weights: Weights) -> Params:
    """See ``contract.Stage``.

    Raises:
      UserError: there are fewer than two photos.
    """
    params, statistics = earlier_weights["backbone"], None
    for found in over_photos(features, params, photos, config):
        b, h, w, d = found.shape
        statistics = statistics or no_statistics(h * w, d)
        statistics = _update(statistics, found.reshape(b, h * w, d))
    if statistics.count < 2:
        raise UserError("PaDiM needs two normal training photos at least, and better a hundred")
    found = whitening(statistics, regularisation=config.padim.regularisation)
    return jax.device_get({"backbone": params, "mean": statistics.mean, "whiten": found})


def predict(weights: dict, images: Photos, *, seed: int | jax.Array, config: Config) -> Prediction:
    """See ``contract.Method``. The score is the largest value of the map."""
    del seed  # nothing is drawn
    fitted = weights[NAME]
    found = features(fitted["backbone"], images, config=config)
    b, h, w, d = found.shape
    distances = mahalanobis(found.reshape(b, h * w, d), fitted["mean"], fitted["whiten"])
    anomaly_map = backbone.upsampled_and_smoothed(
        distances.reshape(b, h, w), height_width(config.image_size), config.padim.smoothing_sigma
    )
    return Prediction(score=anomaly_map.max((1, 2)), anomaly_map=anomaly_map)


def tell(config: Config) -> Telling:
    """See ``contract.Method``: by the median of a photo's positions."""
    del config
    return Telling(
        network=lambda weights: weights[NAME]["backbone"], features=features, distance=_distance
    )


def _distance(weights: Weights, found: FeatureMaps, *, config: Config) -> Float[Array, " b"]:
    del config
    b, h, w, d = found.shape
    fitted = weights[NAME]
    distances = mahalanobis(found.reshape(b, h * w, d), fitted["mean"], fitted["whiten"])
    return jnp.median(distances, axis=1)


def score_map(anomaly_map: AnomalyMaps, *, config: Config) -> AnomalyMaps:
    """See ``contract.Method``: the map as it is."""
    del config
    return anomaly_map


def describe(config: Config) -> dict[str, str]:
    """See ``contract.Method``."""
    c, b = config.padim, config.backbone
    return {
        "score": "the map's largest value",
        "map": f"Mahalanobis distances, smoothed by a Gaussian of {c.smoothing_sigma:g} pixels",
        "features": f"{b.name}, {', '.join(b.layers)}, to {c.dimensions} dimensions by "
        f"{'random choice' if c.reduction == 'random' else 'an orthogonal projection'}",
    }


STAGE = Stage(
    name=NAME, sections=(backbone.SECTION, SECTION), pretrained=backbone.pretrained, fit=fit
)

METHOD = Method(
    name=NAME,
    sections=(backbone.SECTION, SECTION),
    stages=lambda config: (STAGE,),
    predict=predict,
    tell=tell,
    score_map=score_map,
    whole_photos=lambda config: "which knows places of whole photos",
    reconstructs=False,
    needs_synthesis=False,
    describe=describe,
)
