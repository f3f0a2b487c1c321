"""FID, the Fréchet inception distance (Heusel et al., NeurIPS 2017), without keeping features.

A metric's name carries the number of features: ``fid_2048`` is the published one, the others stop
at an earlier layer. Metrics of different numbers of features, or of images, are not comparable.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from diffad_jax.evaluation.ranking import Metric
from diffad_jax.models.gaussian import Statistics, merge, require_equal_shapes
from diffad_jax.models.inception import Inception, resize
from diffad_jax.types import Array, Images

Mean = Float[np.ndarray, " d"]
Covariance = Float[np.ndarray, "d d"]
LAYERS = {64: "pool", 192: "pool_1", 768: "mixed_7", 2048: "mixed_10"}
NO_WEIGHTS = (
    "no Inception weights: set config.evaluation.inception_weights to a safetensors file of them"
)


def no_statistics(dimension: int) -> Statistics:
    """The statistics of no images, float64, from which merging starts."""
    return Statistics(0, np.zeros(dimension), np.zeros((dimension, dimension)))


def statistics(features: Float[np.ndarray, "n d"]) -> Statistics:
    """The statistics of n ≥ 1 images' features."""
    features = np.asarray(features, np.float64)
    mean = features.mean(0)
    centred = features - mean[None]
    return Statistics(len(features), mean, centred.T @ centred)


def image_statistics(
    batches: Iterable[Float[Array, "_ h w 3"]], params: Mapping[str, Any], dimension: int
) -> Statistics:
    """The statistics of images in batches, see ``inception_features``."""
    params = jax.device_put(params)
    features = (np.asarray(_extract(params, image, dimension=dimension)) for image in batches)
    return functools.reduce(merge, map(statistics, features), no_statistics(dimension))


def inception_features(
    params: Mapping[str, Any], image: Images, *, dimension: int
) -> Float32[Array, "b {dimension}"]:
    """The mean over pixels of a layer of Inception.

    The layer is ``pool`` for 64 features, ``pool_1`` for 192, ``mixed_7`` for 768 and ``mixed_10``
    for 2048. FID is defined on pictures, so values are clipped and rounded to 8 bits, then resized
    to 299 × 299 as inside the published graph (``inception.resize``).

    Args:
      params: from ``pretrained.load_inception(path, (LAYERS[dimension],))``.
      image: of any size.
      dimension: a key of ``LAYERS``.

    Raises:
      ValueError: there is no layer for ``dimension``.
    """
    if dimension not in LAYERS:
        known = ", ".join(map(str, LAYERS))
        raise ValueError(f"FID has {known} features, not {dimension}")
    image = jnp.round(jnp.clip(image, 0.0, 1.0) * 255.0) / 255.0
    layer = LAYERS[dimension]
    with jax.default_matmul_precision("highest"):  # the same metric on every device
        maps = Inception((layer,)).apply({"params": params}, resize(image))
    return maps[layer].mean((1, 2))  # pyright: ignore


_extract = jax.jit(inception_features, static_argnames="dimension")


def fid(a: Statistics, b: Statistics) -> dict[str, Metric]:
    """{``fid_d``: the distance between two sets of images}; ≥ 0, lower is more alike.

    With few images it is too large, by an amount that depends on their number; the reason beside
    the value gives this number. It is undefined for fewer than two images and for features that are
    not finite.

    Raises:
      ValueError: they are of different numbers of features.
    """
    require_equal_shapes(a, b)
    dimension = len(a.mean)
    counts = f"{a.count} and {b.count} images"
    if min(a.count, b.count) < 2:
        metric = Metric(None, f"FID needs at least 2 images on each side, there are {counts}")
    elif not all(np.isfinite(s.scatter).all() for s in (a, b)):
        metric = Metric(None, f"features of some of the {counts} are not finite")
    else:
        few = min(a.count, b.count) <= dimension
        note = f", too few for {dimension} features" if few else ""
        metric = Metric(
            frechet_distance(a.mean, a.covariance, b.mean, b.covariance),
            f"{counts}{note}: comparable at equal counts only",
        )
    return {f"fid_{dimension}": metric}


def no_fid(dimension: int, reason: str) -> dict[str, Metric]:
    """The metric's entry where it cannot be computed."""
    return {f"fid_{dimension}": Metric(None, reason)}


def frechet_distance(
    mean_a: Mean, covariance_a: Covariance, mean_b: Mean, covariance_b: Covariance
) -> float:
    """The squared Fréchet (2-Wasserstein) distance of two Gaussians (Dowson and Landau, 1982).

    ‖μ_a - μ_b‖² + tr Σ_a + tr Σ_b - 2 tr (Σ_a Σ_b)^½. With Σ = F Fᵀ the last trace is the sum of
    the singular values of F_aᵀ F_b. So it is real, and exact where covariances lack full rank, as
    with fewer images than features.

    The covariances are symmetric and positive semidefinite up to rounding. The result is ≥ 0;
    rounding below 0 is cut off.
    """
    factor_a, factor_b = _factor(covariance_a), _factor(covariance_b)
    overlap = np.linalg.svd(factor_a.T @ factor_b, compute_uv=False).sum()
    shift = mean_a - mean_b
    distance = shift @ shift + np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * overlap
    return max(0.0, float(distance))


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F [d, rank] with F Fᵀ = covariance; eigenvalues that are rounding alone are left out."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return vectors[:, kept] * np.sqrt(values[kept])[None]
