"""Several products: loaded together, and told apart."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs import mvtec
from diffad_jax.commands.train import train_category
from diffad_jax.data import images
from diffad_jax.errors import ConfigError
from diffad_jax.inference import products
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.contract import Telling
from diffad_jax.methods.registry import check_config


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


@pytest.fixture(params=["padim", "patchcore"])
def fitted(request, several, weights_file, tmp_path):
    """The config and the work directory of two categories, each with a network of its own."""
    config = mvtec.of_method(request.param, "tiles,lamps")
    config.image_size, config.data.root, config.data.validation_share = 32, several, 0.6
    config.backbone.name, config.backbone.layers = "resnet18", ("layer1",)
    config.backbone.weights, config.evaluation.batch_size = weights_file, 4
    if request.param == "padim":
        config.padim.dimensions = 8
    check_config(config)
    for category in config.categories:
        train_category(config, tmp_path / "work" / category, category, None)
    return config, tmp_path / "work"


def test_a_network_of_which_each_keeps_a_copy_is_in_memory_once_and_sees_a_photo_once(
    fitted, several, monkeypatch, compilations
):
    config, workdir = fitted
    told = products.of_workdir(config, workdir)
    tiles, lamps = told.detectors.values()
    networks = [jax.tree.leaves(d.weights[config.method]["backbone"]) for d in (tiles, lamps)]
    assert len(networks[0]) == 10
    assert all(one is other for one, other in zip(*networks, strict=True))
    for category, detector in told.detectors.items():
        assert detector.config.categories == (category,)
        alone = Detector.from_workdir(config, workdir, category)
        assert detector.weights_hash == alone.weights_hash

    names = [f"{several}/{c}/test/good/00{i}.png" for c in ("tiles", "lamps") for i in range(2)]
    pixels = np.stack([images.read_image(n, 32, images.rules(config.data)) for n in names])
    asked, features = [], told._distances._features
    monkeypatch.setattr(told._distances, "_features", lambda *a: asked.append(1) or features(*a))
    found = told.distances(pixels)
    assert len(asked) == 1
    assert [told.nearest(row) for row in found] == ["tiles", "tiles", "lamps", "lamps"]
    np.testing.assert_allclose(told.distances(pixels[:1], 2), found[:1], rtol=1e-5)

    compilations.clear()
    tiles.predict_all(pixels, 4), lamps.predict_all(pixels, 4)
    assert tiles.program == lamps.program and len(compilations) == 1


def test_what_is_learned_once_is_read_once(together, together_trained, monkeypatch):
    read, load = [], products.load_stages
    monkeypatch.setattr(products, "load_stages", lambda s, *a: read.extend(s) or load(s, *a))
    products.load(together, together_trained)
    assert [stage.name for stage in read].count("autoencoder") == 1


@pytest.fixture
def told(together, together_trained, tmp_path, monkeypatch):
    """Dark photos are tiles, bright ones lamps."""

    class Method:
        """The method, with something that tells its products apart."""

        def __init__(self, method):
            self._method = method

        def __getattr__(self, name):
            return getattr(self._method, name)

        def tell(self, config):
            return Telling(lambda weights: {}, level_of, distance_of)

    def level_of(network, pixels, *, config):
        return jax.numpy.asarray(pixels, jax.numpy.float32).mean((1, 2, 3)) / 255.0

    def distance_of(weights, level, *, config):
        of_first, of_second = (abs(weights["normal_level"]["level"].sum() - x) for x in sums)
        return jax.numpy.where(of_first < of_second, level, 1.0 - level)

    work = shutil.copytree(together_trained, tmp_path / "work")
    found = products.load(together, work)
    sums = [float(d.weights["normal_level"]["level"].sum()) for d in found.values()]
    original = products.get_method
    monkeypatch.setattr(products, "get_method", lambda config: Method(original(config)))
    return products.of_workdir(together, work)


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
        products.of_workdir(together, together_trained)
