"""What a report shows where there are no test photos."""

import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

import diffad_jax.data
from configs import mvtec
from diffad_jax.commands.evaluate import evaluate
from diffad_jax.evaluation import stand_in
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.types import Prediction

SIDE = 32


class Unusual:
    """A pixel's score is how far it is from the grey of most photos."""

    weights_hash = "of no weights"
    taken = None
    trained = property(lambda self: self)
    weights: dict = {}

    def __init__(self, config):
        self.config = config

    def predict_all(self, images, batch_size):
        maps = np.abs(np.float32(images).mean(-1) - 100) / 255
        return Prediction(maps.max((1, 2)), maps, None, None)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """``photos(n)`` writes so many good photos, each a little brighter."""
    config = mvtec.of_method("padim", "cups")
    config.image_size, config.data.root = SIDE, str(tmp_path / "data")

    def photos(count):
        for i in range(count):
            path = tmp_path / "data" / "cups" / "train" / "good" / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((SIDE, SIDE, 3), 101 + i % 50, np.uint8)).save(path)

    def detector(config, workdir, category):
        (workdir / category).mkdir(parents=True, exist_ok=True)
        return Unusual(config)

    monkeypatch.setattr("diffad_jax.inference.detector.Detector.from_workdir", detector)
    photos.config, photos.workdir = config, tmp_path / "run"
    return photos


def run(work):
    detector = Unusual(work.config)
    (work.workdir / "cups").mkdir(parents=True, exist_ok=True)
    calibration = load_or_choose(work.config, work.workdir, "cups", detector)
    return calibration, stand_in.run(work.config, work.workdir, "cups", detector, calibration)


def report_data(work):
    text = (work.workdir / "cups" / "report.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


def test_held_out_photos_by_score_and_defects_drawn_on_them(work):
    work(30)
    calibration, found = run(work)
    test, drawn = found.test, found.test.labels
    assert (np.sum(~drawn), drawn.sum()) == (10, 24)
    assert found.scores[~drawn].tolist() == sorted(calibration.held_out_scores, reverse=True)
    assert set(np.array(test.files)[~drawn]) == set(calibration.held_out_names)
    # Outside of its mask a drawn defect leaves the photo as it is: even grey.
    for photo, mask in zip(test.photos[drawn], test.masks[drawn], strict=True):
        assert mask.any() and len(np.unique(photo[~mask])) == 1
        assert 101 <= photo[~mask][0, 0] <= 150
    assert found.describe(calibration.threshold).startswith("no test photos; of 24 defects drawn")
    again = run(work)[1]
    np.testing.assert_array_equal(again.test.photos, test.photos)
    np.testing.assert_array_equal(again.scores, found.scores)


def test_of_many_held_out_photos_those_of_the_highest_scores_have_pictures(work):
    work(90)
    work.config.data.validation_share = 0.4
    calibration, found = run(work)
    assert len(calibration.held_out_scores) == 36 and len(found.test.photos) == 48
    assert len(found.scores) == len(found.test.files) == 36 + 24
    assert min(found.scores[:24]) >= max(found.scores[48:])
    assert not found.test.labels[48:].any()


def test_the_report_holds_them_and_what_the_threshold_expects(work, capsys):
    work(30)
    evaluate(work.config, work.workdir)
    data = report_data(work)
    kinds = [p["defect"] for p in data["photos"]]
    assert kinds.count("held out") == 10 and kinds.count("drawn defect") == 24
    assert all(len(p["pictures"]) == 2 + p["anomalous"] for p in data["photos"])
    assert "textures and shades drawn" in data["stand_in"] and data["no_threshold"] == ""
    assert "0 of 10 held-out photos lie above it" in data["thresholds"][0]["expects"]
    highest = data["photos"][0]["file"]
    assert f"the score of cups/train/good/{highest}: look" in data["thresholds"][0]["expects"]
    said = capsys.readouterr().out
    assert f"the score of cups/train/good/{highest}: look" in said
    assert "the true rate is below 26 %" in said and "of 24 defects drawn on held-out" in said
    assert "0 of 0" not in said and "AUROC" not in said and "mask rule" not in said
    assert not {"mask rule", "intervals"} & data["settings"].keys()
    assert "small outlines on normal photos occur" in data["settings"]["colours"]


def test_without_a_threshold_the_report_says_why(work, capsys):
    work(12)
    evaluate(work.config, work.workdir)
    data = report_data(work)
    assert data["thresholds"] == [] and "4 held-out normal photos" in data["no_threshold"]
    assert "no verdicts: 4 held-out normal photos are too few" in capsys.readouterr().out
    work.config.data.validation_share = 0.0
    work.workdir = work.workdir.with_name("other")
    evaluate(work.config, work.workdir)
    data = report_data(work)
    assert data["photos"] == [] and "no normal photo was held out" in data["stand_in"]


@pytest.mark.parametrize(
    ("installed", "said"),
    [(False, "pip install 'diffad_jax.data.'"), (True, "holds no image")],
)
def test_why_no_defect_could_be_drawn_is_said(work, tmp_path, monkeypatch, installed, said):
    work(30)
    if not installed:
        monkeypatch.delattr(diffad_jax.data, "pipeline", raising=False)
        monkeypatch.setitem(sys.modules, "diffad_jax.data.pipeline", None)
    else:
        (tmp_path / "empty").mkdir()
        work.config.unlock()
        work.config.data.textures = str(tmp_path / "empty")
    calibration, found = run(work)
    console = found.describe(calibration.threshold)
    assert re.search(f"no defects are drawn: .*{said}", console) and "0 defects" not in console
    assert re.search(said, found.note) and not found.test.labels.any()
    assert len(found.scores) == 10 and len(found.test.photos) == 0
