"""Methods that are fitted, through the program's own paths, with a tiny ResNet of noise."""

import json
import shutil

import ml_collections
import numpy as np
import pytest
from PIL import Image

from configs import padim, patchcore
from diffad_jax.commands import train
from diffad_jax.commands.evaluate import evaluate
from diffad_jax.commands.inspect import inspect
from diffad_jax.commands.record import record
from diffad_jax.convert import pretrained, torch_file
from diffad_jax.data import split
from diffad_jax.data.layouts import DataError
from diffad_jax.errors import ConfigError
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.inference.detector import Detector
from diffad_jax.methods import registry
from diffad_jax.methods.registry import check_config
from diffad_jax.training.checkpoint import CheckpointError

CONFIGS = {"padim": padim, "patchcore": patchcore}


@pytest.fixture
def make(photos, weights_file):
    def config(method) -> ml_collections.ConfigDict:
        c = CONFIGS[method].get_config("tiles")
        c.image_size, c.data.root, c.evaluation.batch_size = 16, photos, 4
        c.backbone.name, c.backbone.layers = "resnet18", ("layer1",)
        c.backbone.weights = weights_file
        if method == "padim":
            c.padim.dimensions = 8
        else:
            c.patchcore.bank_share = 0.5
        check_config(c)
        return c

    return config


@pytest.mark.parametrize("method", CONFIGS)
def test_fitted_evaluated_and_loaded_again(method, make, tmp_path, capsys):
    config, workdir = make(method), tmp_path / "run"
    train.train_and_evaluate(config, workdir, None)
    found = json.loads((workdir / "metrics.json").read_text())["categories"]["tiles"]
    assert found["image_auroc"] > 0.5
    assert found["fid_768"] is None and found["direct_copy_frame_psnr"] is None
    assert found["reasons"]["fid_768"] == "the method makes no reconstruction"
    assert found["cost"]["fit_seconds"] > 0 and found["cost"]["weights_mib"] > 0.5
    report = (workdir / "tiles" / "report.html").read_text()
    assert "smoothed by a Gaussian of 4 pixels" in report and "DDIM" not in report

    config.backbone.weights = "moved away"  # the weights hold the network
    capsys.readouterr()
    train.train_and_evaluate(config, workdir, None)
    assert f"tiles/{method}: finished before" in capsys.readouterr().err

    detector = Detector.from_workdir(config, workdir, "tiles")
    low, high = load_or_choose(config, workdir, "tiles", detector).map_range
    assert 0 < low < high
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    together = detector.predict_all(images, 3)
    alone = detector.predict_all(images[1:2], 3)
    np.testing.assert_allclose(alone.anomaly_map[0], together.anomaly_map[1], rtol=1e-3)

    config.evaluation.false_alarm_rate = 0.1  # of no weight
    Detector.from_workdir(config, workdir, "tiles")
    config[method].smoothing_sigma = 2.0
    if method == "patchcore":
        config.patchcore.neighbours = 3
    smoother = Detector.from_workdir(config, workdir, "tiles").predict_all(images, 3)
    assert smoother.anomaly_map.std() > together.anomaly_map.std()
    name, value = {"padim": ("regularisation", 0.02), "patchcore": ("max_bank", 7)}[method]
    config[method][name] = value
    with pytest.raises(CheckpointError, match=f"{method}.{name}: .* there, {value} here"):
        Detector.from_workdir(config, workdir, "tiles")
    with pytest.raises(CheckpointError, match=f"{method}.{name}: .* there, {value} here"):
        train.train_and_evaluate(config, workdir, None)  # not "finished before"


def test_runs_stand_side_by_side(make, tmp_path, capsys):
    train.train_and_evaluate(make("padim"), tmp_path / "a", None)
    train.train_and_evaluate(make("patchcore"), tmp_path / "b", None)
    evaluate(make("padim"), tmp_path / "a", ["paper", str(tmp_path / "b")])
    for file in ("table.md", "comparison.html"):
        text = (tmp_path / "a" / file).read_text()
        assert "Runs side by side" in text and "patchcore" in text, file
    assert "its photos are not MVTec AD's" in capsys.readouterr().out


def test_without_weights_nothing_is_fitted(make, tmp_path):
    config = make("padim")
    config.backbone.weights = ""
    with pytest.raises(ConfigError, match="config.backbone.weights is empty: name a file"):
        train.train_and_evaluate(config, tmp_path, None)
    config.backbone.weights = str(tmp_path / "nothing.pth")
    with pytest.raises(ConfigError, match="config.backbone.weights: cannot read .*nothing.pth"):
        train.train_and_evaluate(config, tmp_path, None)


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("resnet18", ("layer9",), "config.backbone: .*got 'layer9': layer1, layer2"),
        ("inception_v3", ("mixed",), "config.image_size = 16 does not suit .* patchcore: take 80"),
    ],
)
def test_layers_that_do_not_fit_are_named(name, layers, message, make, tmp_path):
    config = make("patchcore")
    config.backbone.name, config.backbone.layers = name, layers
    with pytest.raises(ConfigError, match=message):
        train.train_and_evaluate(config, tmp_path, None)


def test_one_photo_is_too_few_for_a_covariance(make):
    config = ml_collections.FrozenConfigDict(make("padim"))
    (stage,) = registry.get_method(config).stages(config)
    backbone = pretrained.load(stage.pretrained(config), config)
    photo = np.zeros((1, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="PaDiM needs two normal training photos"):
        stage.fit(config, iter([photo]), backbone)


def test_a_config_of_another_method_is_refused(make):
    config = make("padim")
    config.method = "diffad"
    with pytest.raises(ConfigError, match="config.data.textures is missing, which config.m"):
        check_config(config)
    config.method = "magic"
    with pytest.raises(ConfigError, match="config.method = 'magic': choose one of diffad"):
        check_config(config)


def test_recording_needs_synthetic_anomalies_and_says_so(make, tmp_path):
    with pytest.raises(ConfigError, match="learns without synthetic anomalies"):
        record(make("padim"), tmp_path / "out", 1)


@pytest.mark.parametrize("method", CONFIGS)
def test_data_are_inspected_without_synthesis_too(make, tmp_path, capsys, method):
    inspect(make(method), tmp_path / "out")
    folder = tmp_path / "out" / "tiles"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["train"]["photos"] > 1 and summary["synthesis"] is None
    printed = capsys.readouterr().out
    assert "training photos" in printed and "synthesis" not in printed
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert sheet.width < 300 < sheet.height  # one column


@pytest.fixture
def grown(make, tmp_path, photos):
    """Trains a PaDiM on ten photos; ``add`` puts more beside them."""
    root = tmp_path / "data"
    shutil.copytree(photos, root)
    good = root / "tiles" / "train" / "good"

    class Grown:
        config, workdir, directory = make("padim"), tmp_path / "run", tmp_path / "run" / "tiles"

        def train(self, **options):
            train.train_and_evaluate(self.config, self.workdir, None, **options)

        def add(self, count):
            for i in range(count):
                shutil.copy(good / f"{i:03d}.png", good / f"more{i}.png")

        def add_new(self, count):
            for i in range(count):
                Image.new("RGB", (20, 20), (i, 2 * i, 100)).save(good / f"new{i}.png")

        def fitted(self):
            return (self.directory / "padim" / "1").stat().st_mtime_ns

    Grown.config.data.root = str(root)
    Grown.config.data.validation_share = 0.4
    Grown().train()
    return Grown()


def test_added_photos_are_named_and_recalibrate_without_training(grown, capsys):
    before = split.read(grown.directory)
    assert len(before.held_out) == 4
    grown.add(5)
    fitted = grown.fitted()
    capsys.readouterr()
    grown.train()
    said = capsys.readouterr().err
    assert "trained on 6 photos with 4 held out, 10 in all; the folder has 15: 5 added" in said
    assert "--retrain" in said and "--recalibrate" in said and "finished before" in said
    assert split.read(grown.directory) == before
    grown.train(recalibrate=True)
    after = split.read(grown.directory)
    assert after.train == before.train and len(after.held_out) == 9
    assert grown.fitted() == fitted
    found = json.loads((grown.workdir / "metrics.json").read_text())["categories"]["tiles"]
    assert found["verdicts"][0]["chosen_on"] == "9 held-out normal photos"
    capsys.readouterr()
    grown.train()
    assert "added" not in capsys.readouterr().err


@pytest.mark.parametrize("way", ["retrain", "finetune"])
def test_what_recalibration_held_out_can_be_trained_on(grown, way):
    grown.add_new(5)
    grown.train(recalibrate=True)
    grown.train(**{way: True})
    after = split.read(grown.directory)
    assert len(after.train) == 9 and len(after.held_out) == 6 and not after.recalibrated
    fitted = grown.fitted()
    grown.train(**{way: True})
    assert grown.fitted() == fitted


def test_weights_that_are_trained_on_stay_strangers_to_what_is_held_out(grown):
    before = split.read(grown.directory)
    grown.add(5)  # copies: what they show has been seen
    grown.add_new(5)
    grown.train(finetune=True)
    after = split.read(grown.directory)
    assert len({*after.held_out.values()}) == 8 and len(after.held_out | after.train) == 20
    assert not {*after.held_out.values()} & {*before.train.values()}
    assert before.train.items() <= after.train.items()
    assert not {*after.held_out.values()} & {*after.train.values()}


def test_training_anew_keeps_the_config(grown):
    grown.add(1)
    grown.train(retrain=True)
    assert (grown.directory / "config.json").exists()


def test_two_ways_at_once_are_refused(grown):
    grown.add(1)
    with pytest.raises(ConfigError, match="choose one of --retrain, --finetune"):
        grown.train(retrain=True, finetune=True)


def test_retraining_on_what_is_there_and_only_once(grown, capsys):
    grown.add(5)
    grown.train(retrain=True)
    after = split.read(grown.directory)
    assert len(after.train) == 9 and len(after.held_out) == 6
    fitted = grown.fitted()
    capsys.readouterr()
    grown.train(retrain=True)  # such as after a kill
    assert grown.fitted() == fitted and "finished before" in capsys.readouterr().err


def test_a_changed_backbone_is_named_and_fitted_anew_if_asked(grown, weights_file, capsys):
    fitted = grown.fitted()
    state = torch_file.read(weights_file)
    path = grown.workdir / "other.pth"
    torch_file.write(
        path, {k: np.asarray(v) * np.float32(0.9) for k, v in state.items()}, bare=True
    )
    grown.config.backbone.weights = str(path)
    capsys.readouterr()
    grown.train()
    assert "the backbone's weights have changed since; --retrain" in capsys.readouterr().err
    assert grown.fitted() == fitted
    grown.train(retrain=True)
    assert grown.fitted() != fitted


def test_a_split_that_is_lost_is_not_drawn_anew_from_other_photos(grown):
    (grown.directory / split.FILE).unlink()
    grown.train()  # the photos are the same
    assert len(split.read(grown.directory).held_out) == 4
    (grown.directory / split.FILE).unlink()
    grown.add(5)
    with pytest.raises(DataError, match=r"photos\.json is lost, and tiles holds other photos than"):
        grown.train()
    grown.train(retrain=True)
    assert len(split.read(grown.directory).held_out) == 6


@pytest.mark.parametrize(("count", "share"), [(2, 0.1), (10, 0.0)])
def test_without_held_out_photos_it_trains_and_gives_no_verdict(
    make, tmp_path, photos, count, share
):
    config = make("padim")
    config.data.root, config.data.validation_share = str(tmp_path / "data"), share
    shutil.copytree(photos, config.data.root)
    for path in sorted((tmp_path / "data/tiles/train/good").iterdir())[count:]:
        path.unlink()
    train.train_and_evaluate(config, tmp_path / "run", None)
    found = json.loads((tmp_path / "run/metrics.json").read_text())["categories"]["tiles"]
    assert found["threshold"] is None and "no normal photo was held out" in str(found["reasons"])
