"""The how-tos of CONTRIBUTING.md, done: what a stranger adds works everywhere at once."""

import json

import mean_photo
import ml_collections
import npz
import numpy as np
import pytest
from PIL import Image

from configs import mvtec
from diffad_jax.commands.predict import predict_photos
from diffad_jax.commands.train import train_and_evaluate
from diffad_jax.data import layouts
from diffad_jax.errors import ConfigError
from diffad_jax.evaluation import metrics
from diffad_jax.evaluation.ranking import Metric
from diffad_jax.export import exporter
from diffad_jax.export.registry import FORMATS
from diffad_jax.methods.registry import METHODS, check_config


@pytest.fixture
def config(monkeypatch, photos) -> ml_collections.ConfigDict:
    monkeypatch.setitem(METHODS, mean_photo.NAME, mean_photo.METHOD)
    config = mvtec.of_method(mean_photo.NAME, "tiles")
    config.image_size, config.data.root, config.evaluation.batch_size = 16, photos, 4
    return config


def test_a_method_trains_predicts_and_is_exported(config, tmp_path, photos):
    check_config(config)
    train_and_evaluate(config, tmp_path, None)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["categories"]["tiles"]["image_auroc"] == 1.0
    predict_photos(config, tmp_path, f"{photos}/tiles/test/scratch", tmp_path / "out")
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 4
    exporter.export(config, tmp_path, tmp_path / "exported", "onnx")
    assert (tmp_path / "exported" / "tiles" / "run.py").exists()


def test_a_format_is_written_with_its_card(config, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "npz", npz.FORMAT)
    train_and_evaluate(config, tmp_path, None)
    exporter.export(config, tmp_path, tmp_path / "exported", "npz")
    folder = tmp_path / "exported" / "tiles"
    with np.load(folder / "weights.npz") as weights:
        assert any(name.endswith("mean") for name in weights)
    assert json.loads((folder / "model.json").read_text())["format"] == "npz"


def test_a_field_is_checked_by_its_range(config):
    config.mean_photo.floor = -1.0
    with pytest.raises(ConfigError, match=r"config\.mean_photo\.floor = -1\.0: must be above 0"):
        check_config(config)


def test_a_layout_is_an_entry(config, tmp_path, monkeypatch):
    entry = layouts.Layout(train=("fine",), test="bad", masks="masks")
    monkeypatch.setitem(layouts.LAYOUTS, "ours", entry)
    for name in ("fine/a.png", "bad/dent/b.png"):
        path = tmp_path / "cups" / name
        path.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    found = layouts.read_category(str(tmp_path), "cups", "ours")
    assert {(r.split, r.defect_type) for r in found} == {("train", "good"), ("test", "dent")}


def test_a_metric_is_in_every_table(config, tmp_path, monkeypatch):
    def found_without_alarm(test, scores, maps):
        """The share of defects that score above every good photo."""
        if not test.labels.any() or test.labels.all():
            return Metric(None, "test photos of both classes are needed")
        limit = scores[~test.labels].max()
        return Metric(float(np.mean(scores[test.labels] > limit)))

    definition = metrics.Definition("found without an alarm", 100.0, found_without_alarm)
    monkeypatch.setitem(metrics.DEFINITIONS, "image_found_without_alarm", definition)
    train_and_evaluate(config, tmp_path, None)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["mean"]["image_found_without_alarm"] == 1.0
    assert "found without an alarm" in (tmp_path / "table.md").read_text()
    assert "found without an alarm" in (tmp_path / "tiles" / "report.html").read_text()
