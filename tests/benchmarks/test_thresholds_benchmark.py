"""The four ways to choose a threshold, with a detector that scores by brightness."""

import ml_collections
import numpy as np
import pytest

from benchmarks import thresholds
from configs import mvtec, mvtec_small
from diffad_jax.errors import ConfigError
from diffad_jax.types import Prediction


class Brightness:
    def __init__(self, config, photos):
        self.config, self.num_photos = config, len(photos)

    def predict_all(self, images, batch_size):
        scores = images[:, 0, 0, 0].astype(float)
        return Prediction(scores, images[..., 0].astype(float), None, None)


def photos(*levels):
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), 2, 2, 3))


def test_each_way_by_hand(monkeypatch):
    fitted = []

    def fit(config, photos):
        fitted.append(len(photos))
        return Brightness(config, photos)

    monkeypatch.setattr(thresholds, "_fitted", fit)
    config = ml_collections.ConfigDict(mvtec.of_method("padim", "cups"))
    # Held out: 10 and 20 of a tenth; 10, 20 … 60 of a third, median 35, deviation 15; all of folds.
    levels = range(10, 201, 10)
    found = thresholds._ways(config, photos(*levels), photos(15, 55, 95), photos(150, 250))
    assert found["a tenth held out"] == (pytest.approx(2 / 3), 1.0)
    assert found["a third held out"] == (pytest.approx(1 / 3), 1.0)
    assert found["a third, median + 3 MAD"] == (0.0, 1.0)  # above 35 + 3 * 1.4826 * 15 = 101.7
    assert found["five folds"] == (0.0, 0.5)  # 5 % of 20 may exceed: the threshold is 190
    assert fitted == [18, 14, *[16] * 5, 20]


def test_methods_that_train_by_steps_are_refused():
    config = mvtec_small.get_config("cups")
    with pytest.raises(ConfigError, match="'diffad' is not fitted in one pass"):
        thresholds.measure(config, "cups", 20, 1)
