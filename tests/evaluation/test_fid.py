"""FID: closed forms, SciPy's matrix square root, running statistics, and what is undefined."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from diffad_jax.evaluation import fid
from diffad_jax.evaluation.ranking import Metric
from diffad_jax.models.inception import Inception, resize


def covariance(seed: int, dimension: int, rank: int | None = None) -> np.ndarray:
    factor = np.random.default_rng(seed).standard_normal((dimension, rank or 2 * dimension))
    return factor @ factor.T / factor.shape[1]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("dimension", [1, 2, 7, 40])
def test_equals_the_formula_with_scipys_matrix_square_root(dimension):
    mean_a, mean_b = normal(0, dimension), normal(1, dimension)
    a, b = covariance(2, dimension), covariance(3, dimension)
    root = scipy.linalg.sqrtm(a @ b).real
    expected = np.sum((mean_a - mean_b) ** 2) + np.trace(a + b - 2 * root)
    assert fid.frechet_distance(mean_a, a, mean_b, b) == pytest.approx(expected, rel=1e-9)


def test_equal_gaussians_are_zero_apart():
    mean, matrix = normal(0, 30), covariance(1, 30)
    assert fid.frechet_distance(mean, matrix, mean, matrix) == pytest.approx(0, abs=1e-12)


def test_in_one_dimension():
    # (2 - 5)² + (3 - 1)²
    distance = fid.frechet_distance(np.array([2.0]), np.array([[9.0]]), np.array([5.0]), np.eye(1))
    assert distance == pytest.approx(13, abs=1e-12)


def test_diagonal_covariances_are_as_many_single_dimensions():
    a, b = np.array([4.0, 9.0, 0.0, 1.0]), np.array([1.0, 16.0, 25.0, 0.0])
    mean = np.zeros(4)
    distance = fid.frechet_distance(mean, np.diag(a), mean, np.diag(b))
    assert distance == pytest.approx(np.sum((np.sqrt(a) - np.sqrt(b)) ** 2), abs=1e-12)


@pytest.mark.parametrize("rank", [1, 5, 20])
def test_covariances_without_full_rank(rank):
    # (cov, s² cov): (1 - s)² tr cov, whatever the rank; and no overlap at all: the sum of traces
    matrix, mean = covariance(0, 20, rank), np.zeros(20)
    scaled = fid.frechet_distance(mean, matrix, mean, 9 * matrix)
    assert scaled == pytest.approx(4 * np.trace(matrix), rel=1e-9)
    padded = np.zeros((2, 40, 40))
    padded[0, :20, :20], padded[1, 20:, 20:] = matrix, matrix
    apart = fid.frechet_distance(np.zeros(40), padded[0], np.zeros(40), padded[1])
    assert apart == pytest.approx(2 * np.trace(matrix), rel=1e-9)


def test_covariances_of_nothing_but_zeros():
    zeros = np.zeros((3, 3))
    assert fid.frechet_distance(np.zeros(3), zeros, np.ones(3), zeros) == 3
    assert fid.frechet_distance(np.zeros(3), zeros, np.zeros(3), np.eye(3)) == 3


def test_rotations_and_order_do_not_matter():
    mean_a, mean_b = normal(0, 6), normal(1, 6)
    a, b = covariance(2, 6), covariance(3, 6, rank=2)
    q, _ = np.linalg.qr(normal(4, 6, 6))
    distance = fid.frechet_distance(mean_a, a, mean_b, b)
    rotated = fid.frechet_distance(q @ mean_a, q @ a @ q.T, q @ mean_b, q @ b @ q.T)
    assert rotated == pytest.approx(distance, rel=1e-9)
    assert fid.frechet_distance(mean_b, b, mean_a, a) == pytest.approx(distance, rel=1e-9)


@pytest.mark.parametrize("sizes", [(50,), (1, 49), (7, 13, 1, 29), (1,) * 50])
def test_running_statistics_are_those_of_all_features_at_once(sizes):
    features = (normal(0, 50, 6) + 1e4).astype(np.float32)  # far from zero: the hard case
    parts = np.split(features, np.cumsum(sizes)[:-1])
    merged = functools.reduce(fid.merge, map(fid.statistics, parts), fid.no_statistics(6))
    assert merged.count == 50
    double = features.astype(np.float64)
    np.testing.assert_allclose(merged.mean, double.mean(0), rtol=1e-13)
    np.testing.assert_allclose(merged.covariance, np.cov(double.T), rtol=1e-6)


def test_shifted_features_are_the_squared_shift_apart():
    features, shift = normal(0, 12, 30), np.linspace(0, 1, 30)
    a, b = fid.statistics(features), fid.statistics(features + shift)
    metric = fid.fid(a, b)["fid_30"]
    assert metric.value == pytest.approx(np.sum(shift**2), rel=1e-9)


def test_the_metric_counts_its_images_and_warns_where_they_are_few():
    a, b = (fid.statistics(normal(seed, n, 3)) for seed, n in ((0, 209), (1, 63)))
    metrics = fid.fid(a, b)
    assert metrics.keys() == {"fid_3"}
    assert metrics["fid_3"].reason == "209 and 63 images: comparable at equal counts only"
    few = fid.fid(a, fid.statistics(normal(1, 3, 3)))["fid_3"]
    assert few.reason.startswith("209 and 3 images, too few for 3 features:")


def test_what_is_undefined_says_why():
    two, one = fid.statistics(normal(0, 2, 4)), fid.statistics(normal(1, 1, 4))
    reason = "FID needs at least 2 images on each side, there are 2 and {} images"
    assert fid.fid(two, one) == {"fid_4": Metric(None, reason.format(1))}
    assert fid.fid(two, fid.no_statistics(4)) == {"fid_4": Metric(None, reason.format(0))}
    broken = fid.statistics(np.full((2, 4), np.nan))
    reason = "features of some of the 2 and 2 images are not finite"
    assert fid.fid(two, broken) == {"fid_4": Metric(None, reason)}
    without = fid.no_fid(768, fid.NO_WEIGHTS)["fid_768"]
    assert without.value is None and "set config.evaluation.inception_weights" in without.reason


def test_different_features_do_not_mix():
    a, b = fid.no_statistics(64), fid.no_statistics(192)
    for function in (fid.merge, fid.fid):
        with pytest.raises(ValueError, match="of 64 and of 192 features do not mix"):
            function(a, b)


def test_layers_have_the_number_of_features_in_the_metrics_name():
    image = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    network = Inception(tuple(fid.LAYERS.values()))
    maps, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), image)
    assert [maps[layer].shape[-1] for layer in fid.LAYERS.values()] == list(fid.LAYERS)


@functools.cache
def stem_params() -> dict:
    """Random parameters, as deep as 64 features need."""
    init = Inception(("pool",)).init
    return jax.jit(init)(jax.random.key(0), jnp.zeros((1, 75, 75, 3)))["params"]


def test_statistics_of_images_are_those_of_their_mean_features():
    image = np.random.default_rng(0).integers(0, 256, (5, 40, 30, 3)).astype(np.float32) / 255
    ours = fid.image_statistics([image[:2], image[2:4], image[4:]], stem_params(), 64)
    maps = Inception(("pool",)).apply({"params": stem_params()}, resize(jnp.asarray(image)))
    expected = np.asarray(maps["pool"].mean((1, 2)))
    assert ours.count == 5
    np.testing.assert_allclose(ours.mean, expected.mean(0), rtol=1e-4)
    np.testing.assert_allclose(
        ours.covariance, np.cov(expected.T), rtol=1e-2, atol=1e-4 * np.var(expected)
    )


def test_images_count_as_pictures_of_8_bits():
    levels = np.random.default_rng(0).integers(0, 256, (1, 20, 20, 3))
    features = functools.partial(fid.inception_features, stem_params(), dimension=64)
    exact, beside, beyond = (
        features(jnp.asarray(x, jnp.float32) / 255)
        for x in (levels, levels + 0.3, np.where(levels < 128, -50, 300))
    )
    np.testing.assert_array_equal(exact, beside)
    black_and_white = features(jnp.asarray(levels >= 128, jnp.float32))
    np.testing.assert_array_equal(beyond, black_and_white)


def test_an_unknown_number_of_features_is_an_error():
    message = re.escape("FID has 64, 192, 768, 2048 features, not 100")
    with pytest.raises(ValueError, match=message):
        fid.inception_features({}, jnp.zeros((1, 75, 75, 3)), dimension=100)
