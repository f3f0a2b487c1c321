"""Evaluation of a category with a detector whose answers are known."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict
from PIL import Image

from diffad_jax.commands.evaluate import evaluate
from diffad_jax.data.images import ImageError
from diffad_jax.errors import ConfigError
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.methods.registry import check_config
from diffad_jax.models.inception import Inception
from diffad_jax.types import Prediction


class Brightness:
    """Calls bright pixels anomalous and repairs nothing."""

    weights_hash = "of no weights"
    taken = None
    trained = property(lambda self: self)
    weights: dict = {}

    def __init__(self, config):
        self.config = config

    def predict_all(self, images, batch_size):
        photos = np.float32(images) / 255
        maps = photos.mean(-1)
        return Prediction(maps.max((1, 2)), maps, photos * 0.9, photos[:, None] * 0.95)


@pytest.fixture
def run(tmp_path, tiny_config, monkeypatch):
    """Writes photos by name and brightness, evaluates; returns the category of metrics.json."""
    tiny_config.data.root = str(tmp_path / "data")
    tiny_config.categories = ("cups",)
    tiny_config.evaluation.batch_size = 3  # the last batch is smaller

    def detector(config, workdir, category):
        (workdir / category).mkdir(parents=True, exist_ok=True)
        return Brightness(config)

    monkeypatch.setattr("diffad_jax.inference.detector.Detector.from_workdir", detector)

    def write(name, brightness):
        path = tmp_path / "data" / "cups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((16, 16, 3), 10, np.uint8)
        pixels[4:8, 4:8] = brightness
        Image.fromarray(pixels).save(path)
        if name.startswith("ground_truth"):
            Image.fromarray(np.uint8(255 * (pixels[..., 0] > 10))).save(path)

    def evaluated(photos, **options):
        for i in range(10):
            write(f"train/good/{i}.png", 20 + i)
        for name, brightness in photos.items():
            write(name, brightness)
        check_config(tiny_config)
        evaluate(tiny_config, tmp_path / "out", **options)
        return json.loads((tmp_path / "out" / "metrics.json").read_text())["categories"]["cups"]

    evaluated.config, evaluated.out = tiny_config, tmp_path / "out"
    return evaluated


GOOD = {"test/good/a.png": 15, "test/good/b.png": 90}
BAD = {"test/chip/c.png": 80, "test/chip/d.png": 200}
MASKS = {"ground_truth/chip/c_mask.png": 200, "ground_truth/chip/d_mask.png": 200}


def test_metrics_thresholds_and_files(run, capsys):
    found = run({**GOOD, **BAD, **MASKS}, compare=["paper"])
    assert found["image_auroc"] == 0.75  # by hand: one of four pairs is in the wrong order
    # 6 of the 10 normal photos are held out: the brightest of them is the threshold.
    assert 20 / 255 <= found["threshold"] <= 29 / 255
    held_out, best = found["verdicts"]
    assert held_out["chosen_on"] == "6 held-out normal photos"
    assert not held_out["used_test_labels"] and best["used_test_labels"]
    assert (held_out["true_positives"], held_out["false_positives"]) == (2, 1)
    # F1-max: everything from 80 on, so three photos, of which two are chipped.
    assert found["image_f1_max"] == 0.8
    assert found["image_f1_max_threshold"] == pytest.approx(80 / 255)
    assert (best["true_positives"], best["false_positives"]) == (2, 1)
    assert found["by_defect"]["chip"]["num_photos"] == 2
    assert found["mask_rule"] == "half" and found["pixel_pro"] > 0.9
    assert found["fid_768"] is None and "no Inception weights" in found["reasons"]["fid_768"]
    assert found["intervals"]["image_auroc"]["low"] <= 0.75
    printed = capsys.readouterr().out
    assert "2 of 2 defects found, 1 of 2 good photos called anomalous" in printed
    assert "0 of 6 held-out photos lie above it: the true rate is below 39 %" in printed
    assert found["false_alarms"]["of"] == 6 and found["false_alarms"]["above"] == 0
    assert "mask rule half" in printed and "cups: no published metrics" in printed
    for file in ("table.md", "table.tex", "cups/report.html"):
        text = (run.out / file).read_text()
        assert "above half" in text and "test labels" in text, file


@pytest.mark.parametrize(
    ("files", "undefined", "reason"),
    [
        ({}, "image_auroc", "there are no test photos"),
        (GOOD, "pixel_ap", "there are no anomalous pixels"),
        ({**BAD, **MASKS}, "image_ap", "there are no normal test photos"),
        ({**GOOD, **BAD}, "pixel_pro", "defect photos have no ground-truth masks"),
    ],
)
def test_what_cannot_be_computed_says_why(run, files, undefined, reason):
    found = run(files)
    assert found[undefined] is None and found["reasons"][undefined] == reason
    assert reason in (run.out / "table.md").read_text()
    assert reason in (run.out / "cups" / "report.html").read_text()


def test_without_a_held_out_photo_there_is_no_threshold(run):
    run.config.data.validation_share = 0.0
    found = run({**GOOD, **BAD, **MASKS})
    assert found["threshold"] is None
    reason = found["reasons"]["threshold"]
    assert reason.startswith("no normal photo was held out to choose a threshold")
    assert [v["chosen_on"] for v in found["verdicts"]] == ["test labels"]


def test_with_little_memory_metrics_state_their_bounds(run, monkeypatch):
    found = run({**GOOD, **BAD, **MASKS})
    assert "pixel_ap" not in found.get("reasons", {})
    monkeypatch.setattr("diffad_jax.evaluation.pixels._BYTES_BESIDE", 2**30)
    # More scores of defects than the two levels that fit.
    more = {f"test/chip/more{i}.png": 100 + i for i in range(4)}
    more |= {f"ground_truth/chip/more{i}_mask.png": 200 for i in range(4)}
    found = run({**GOOD, **BAD, **MASKS, **more})
    for metric in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_pro", "pixel_aupimo"):
        assert "levels: the exact value is in [" in found["reasons"][metric]
    for file in ("table.md", "cups/report.html"):
        assert "the exact value is in" in (run.out / file).read_text(), file


def test_a_photo_that_cannot_be_read_stops_evaluation(run, tmp_path):
    run({**GOOD, **BAD, **MASKS})
    (tmp_path / "data" / "cups" / "test" / "good" / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.png is no image"):
        run({})


def test_fid_of_the_reconstructions(run, tmp_path):
    init = Inception(("pool",)).init
    params = jax.jit(init)(jax.random.key(0), jnp.zeros((1, 75, 75, 3)))["params"]
    tensors = {k: np.asarray(v) for k, v in flatten_dict(params, sep="/").items()}
    safetensors.numpy.save_file(tensors, tmp_path / "stem.safetensors")
    run.config.evaluation.inception_weights = str(tmp_path / "stem.safetensors")
    run.config.evaluation.fid_dimension = 64
    found = run({**GOOD, **BAD, **MASKS})
    assert found["fid_64"] > 0 and found["reasons"]["fid_64"].startswith("4 and 4 images")


def test_weights_that_do_not_fit_are_named(run, tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights")
    run.config.evaluation.inception_weights = str(tmp_path / "text.safetensors")
    with pytest.raises(ConfigError, match="config.evaluation.inception_weights: .*text.safetens"):
        run(GOOD)


def test_an_unknown_number_of_features_is_refused(run):
    run.config.evaluation.fid_dimension = 100
    with pytest.raises(ConfigError, match="fid_dimension = 100: choose one of 64, 192, 768, 2048"):
        run(GOOD)


def test_a_stored_threshold_serves_until_the_rate_changes(run):
    run({**GOOD, **BAD, **MASKS})
    config, detector = run.config, Brightness(run.config)
    stored = load_or_choose(config, run.out, "cups", detector)
    assert stored.num_held_out_normal == 6 and stored.false_alarm_rate == 0.05
    assert load_or_choose(config, run.out, "cups", detector) == stored
    config.evaluation.false_alarm_rate = 0.5
    changed = load_or_choose(config, run.out, "cups", detector)
    assert changed.false_alarm_rate == 0.5


def test_results_of_other_weights_stay_unless_they_may_be_replaced(run, monkeypatch, capsys):
    run({**GOOD, **BAD})
    names = ("metrics", "table", "cups/report", "cups/contact_sheet")
    before = {name: next(run.out.glob(f"{name}.*")).read_bytes() for name in names}
    run({})  # the same weights and config
    assert not list(run.out.rglob("*_1.*"))
    monkeypatch.setattr(Brightness, "weights_hash", "others")
    run({}, overwrite=True)
    assert not list(run.out.rglob("*_1.*"))
    run.config.evaluation.smoothing = 5
    run({})
    assert "kept as metrics_1.json" in capsys.readouterr().err
    kept = {name: list(run.out.glob(f"{name}_1.*")) for name in names}
    assert all(kept.values()) and all((run.out / f"{n}.png").exists() for n in names[3:])
    assert json.loads(kept["metrics"][0].read_text())["categories"]["cups"]["weights"] == "others"
    assert kept["cups/report"][0].read_bytes() != (run.out / "cups/report.html").read_bytes()
    assert before["table"].startswith(b"# Evaluation")
