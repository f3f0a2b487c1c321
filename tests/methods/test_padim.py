"""PaDiM's Gaussians against NumPy."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import distance

from configs import padim as padim_config
from diffad_jax.methods import backbone, padim

RNG = np.random.default_rng(0)
FEATURES = (RNG.standard_normal((30, 3, 4)) @ RNG.standard_normal((4, 4)) + 50).astype(np.float32)


def statistics(sizes):
    parts = np.split(FEATURES, np.cumsum(sizes)[:-1])
    return functools.reduce(padim.updated, map(jnp.asarray, parts), padim.no_statistics(3, 4))


@pytest.mark.parametrize("sizes", [(30,), (7, 7, 7, 9), (1,) * 30])
def test_streamed_moments_equal_those_of_numpy(sizes):
    found = statistics(sizes)
    assert found.count == 30
    np.testing.assert_allclose(found.mean, FEATURES.mean(0), rtol=1e-5)
    for p in range(3):
        covariance = np.cov(FEATURES[:, p].astype(np.float64), rowvar=False)
        np.testing.assert_allclose(found.scatter[p] / 29, covariance, rtol=1e-3, atol=1e-4)


def test_distances_equal_those_of_scipy():
    found = statistics((30,))
    whiten = padim.whitening(found, 0.01)
    queries = (FEATURES[:5] + RNG.standard_normal((5, 3, 4))).astype(np.float32)
    ours = padim.mahalanobis(jnp.asarray(queries), found.mean, whiten)
    for p in range(3):
        seen = FEATURES[:, p].astype(np.float64)
        inverse = np.linalg.inv(np.cov(seen, rowvar=False) + 0.01 * np.eye(4))
        theirs = [distance.mahalanobis(q, seen.mean(0), inverse) for q in queries[:, p]]
        np.testing.assert_allclose(ours[:, p], theirs, rtol=1e-3)


def test_fewer_photos_than_dimensions_still_have_distances():
    features = jnp.asarray(FEATURES[:2])
    found = padim.updated(padim.no_statistics(3, 4), features)
    ours = padim.mahalanobis(features, found.mean, padim.whitening(found, 0.01))
    assert np.isfinite(ours).all() and (ours > 0).all()


@pytest.fixture
def config():
    config = padim_config.get_config("tiles")
    config.backbone.name, config.backbone.layers = "resnet18", ("layer1", "layer2")
    config.image_size, config.padim.dimensions = 32, 20
    return config


def test_a_random_reduction_chooses_channels(config):
    matrix = np.concatenate(padim.projections(config))
    assert matrix.shape == (64 + 128, 20)
    assert set(np.unique(matrix)) == {0, 1} and (matrix.sum(axis=0) == 1).all()
    assert (matrix.sum(axis=1) <= 1).all()
    config.seed = 1
    assert (matrix != np.concatenate(padim.projections(config))).any()


def test_an_orthogonal_reduction_keeps_lengths_inside_its_space(config):
    config.padim.reduction = "orthogonal"
    matrix = np.concatenate(padim.projections(config))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(20), atol=1e-6)


def test_there_are_no_more_dimensions_than_channels(config):
    config.padim.dimensions = 10_000
    assert np.concatenate(padim.projections(config)).shape == (192, 192)


@pytest.mark.parametrize("sigma", [1.0, 4.0, 30.0])
def test_smoothing_equals_scipys(sigma):
    maps = RNG.random((2, 24, 24)).astype(np.float32)
    ours = backbone.upsampled_and_smoothed(jnp.asarray(maps), (24, 24), sigma)
    theirs = np.stack([ndimage.gaussian_filter(m.astype(np.float64), sigma) for m in maps])
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_constant_map_stays_constant():
    ours = backbone.upsampled_and_smoothed(jnp.full((1, 5, 5), 3.0), (32, 32), 4.0)
    np.testing.assert_allclose(ours, np.full((1, 32, 32), 3.0), rtol=1e-5)
