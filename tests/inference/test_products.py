"""Several products by one set of networks: loaded together, and told apart."""

import json
import shutil

import jax
import numpy as np
import pytest

from diffad_jax.errors import ConfigError
from diffad_jax.inference import products
from diffad_jax.inference.detector import Detector


def test_networks_are_in_memory_once_and_results_are_those_of_each_detector(
    together, together_trained
):
    found = products.load(together, together_trained)
    tiles, lamps = found.values()
    for name in ("autoencoder", "denoiser", "segmenter"):
        for one, other in zip(*map(jax.tree.leaves, (tiles.weights[name], lamps.weights[name])),
                              strict=True):  # fmt: skip
            assert one.unsafe_buffer_pointer() == other.unsafe_buffer_pointer()
    for category, detector in found.items():
        alone = Detector.from_workdir(together, together_trained, category)
        assert detector.weights_hash == alone.weights_hash


def brightness_of(weights, own, pixels, *, config):
    """Dark photos are of the first product, bright ones of the second."""
    level = jax.numpy.asarray(pixels, jax.numpy.float32).mean((1, 2, 3)) / 255.0
    return jax.numpy.stack([level, 1.0 - level], axis=1)


@pytest.fixture
def told(together, together_trained, tmp_path, monkeypatch):
    class Method:
        """The method, with something that tells its products apart."""

        def __init__(self, method):
            self._method = method

        def __getattr__(self, name):
            return getattr(self._method, name)

        def tell(self, config):
            return brightness_of

    original = products.get_method
    monkeypatch.setattr(products, "get_method", lambda config: Method(original(config)))
    return products.Products(together, shutil.copytree(together_trained, tmp_path / "work"))


def test_the_nearest_counts_unless_it_is_farther_than_its_own_photos_ever_are(told, tmp_path):
    kept = [json.loads((tmp_path / "work" / c / "likeness.json").read_text())["farthest"]
            for c in ("tiles", "lamps")]  # fmt: skip
    pixels = np.full((3, 16, 16, 3), [[[[0]]], [[[255]]], [[[128]]]], np.uint8)
    found = told.distances(pixels)
    level = np.array([0.0, 1.0, 128 / 255])
    wanted = np.stack([level / (1.5 * kept[0]), (1 - level) / (1.5 * kept[1])], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert [told.nearest(row) for row in ([0.2, 0.9], [1.3, 1.0], [1.1, 1.01])] == [
        "tiles", "lamps", ""
    ]  # fmt: skip


def test_products_that_nothing_tells_apart_are_to_be_named(together, together_trained):
    with pytest.raises(ConfigError, match=r"memory\.patches would.*--config\.categories=tiles"):
        products.Products(together, together_trained)
