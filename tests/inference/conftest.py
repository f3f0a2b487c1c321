"""A detector whose answers are known, and folders for it."""

import csv
import json

import ml_collections
import numpy as np
import pytest
from PIL import Image

from diffad_jax.commands.predict import predict_photos
from diffad_jax.types import Prediction


class Brightness:
    """Calls bright pixels anomalous; counts the windows that it saw."""

    taken = None

    def __init__(self, config):
        self._config, self.weights_hash, self.seen, self.batches = config, "first", [], []
        self.after_batch = lambda: None

    @property
    def config(self):
        return ml_collections.FrozenConfigDict(self._config)

    def predict_all(self, images, batch_size):
        assert images.dtype == np.uint8 and images.shape[1:] == (16, 16, 3)
        assert len(images) <= batch_size
        self.seen += [int(image.max()) for image in images]
        self.batches.append(len(images))
        self.after_batch()
        photos = np.float32(images) / 255
        maps = photos.mean(-1)
        return Prediction(maps.max((1, 2)), maps, photos * 0.5, photos[:, None])


@pytest.fixture
def line(tmp_path, tiny_config, monkeypatch):
    """A call of the mode; attributes: its folders, config and detector, ``save`` to add a photo."""
    tiny_config.normal_level.floor = 0.0  # else the method takes no tiles
    detector = Brightness(tiny_config)
    workdir = tmp_path / "work"
    (workdir / "tiles").mkdir(parents=True)
    monkeypatch.setattr(
        "diffad_jax.inference.detector.Detector.from_workdir", lambda *_: detector, raising=True
    )

    class Line:
        config, source, output = tiny_config, tmp_path / "in", tmp_path / "out"

        def __call__(self, source=None, **options):
            detector.seen.clear()
            detector.batches.clear()
            predict_photos(tiny_config, workdir, source or self.source, self.output, **options)

        def add(self, name, brightness=100, size=(20, 24)):
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((*size, 3), brightness, np.uint8)).save(path)
            return path

        def rows(self):
            lines = (self.output / "predictions.jsonl").read_text().splitlines()
            return {row["name"]: row for row in map(json.loads, lines)}

        def table(self):
            with (self.output / "predictions.csv").open(encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))

    Line.detector, Line.workdir = detector, workdir
    return Line()
