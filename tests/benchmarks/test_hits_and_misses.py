"""The picture of hits and misses: which photos, where outlined, and no photo in it."""

import ml_collections
import numpy as np
import pytest
from PIL import Image

from benchmarks import hits_and_misses
from diffad_jax.data import images, pictures


class Detector:
    """Scores photos by their mean; its maps are 3 everywhere."""

    def __init__(self, config):
        self.config = ml_collections.FrozenConfigDict(config)

    def predict_all(self, photos, batch_size):
        del batch_size
        maps = np.full(photos.shape[:3], 3.0, np.float32)
        score = photos.mean((1, 2, 3)) / 255.0
        return ml_collections.ConfigDict({"anomaly_map": maps, "score": score})


@pytest.fixture
def drawn(tiny_config, tmp_path):
    output = tmp_path / "made" / "cases.png"
    shown = hits_and_misses.draw(
        Detector(tiny_config), "tiles", 0.25, pictures.Scale(3.0, 5.0), output
    )
    return shown, np.asarray(Image.open(output))


def test_each_class_is_shown_from_its_best_to_its_worst(drawn, tiny_config):
    shown, _ = drawn
    seen = (tiny_config.image_size, images.rules(tiny_config.data))
    means = {k: [images.read_image(f, *seen).mean() for f in files] for k, files in shown.items()}
    assert means["defect"] == sorted(means["defect"], reverse=True)
    assert means["normal"] == sorted(means["normal"])
    assert all("/good/" in f for f in shown["normal"])
    assert not any("/good/" in f for f in shown["defect"])


def test_maps_at_the_lower_limit_are_black_but_for_the_outline_of_defects(drawn):
    _, sheet = drawn
    black = sheet[..., 2] == 40  # the map's darkest colour is (10, 12, 40)
    rows = black.sum(axis=1)
    first, second = np.flatnonzero(np.diff((rows > 100).astype(int), prepend=0) == 1)
    tile = 160
    assert not (sheet[second : second + tile, 6 : 6 + tile] == 255).any()
    outline = (sheet[first : first + tile, 6 : 6 + tile] == 255).all(-1)
    assert 0.005 < outline.mean() < 0.2
    assert (black[first : first + tile, 6 : 6 + tile] | outline).all()
