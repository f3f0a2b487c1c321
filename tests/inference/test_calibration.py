"""What was held out when training began stays held out, whatever the folder holds later."""

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import ml_collections
import numpy as np
import pytest
from PIL import Image

from diffad_jax.commands.record import record
from diffad_jax.commands.train import How, begin
from diffad_jax.data import recorded, split
from diffad_jax.data.layouts import DataError
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.inference.detector import score_settings
from diffad_jax.methods.registry import METHODS, SHARED, get_method
from diffad_jax.runtime import regular
from diffad_jax.training import shared
from diffad_jax.training.checkpoint import EARLIER, Checkpoints
from diffad_jax.training.fingerprint import PHOTOS
from diffad_jax.training.held_out import describe_changes, load_split, settle
from diffad_jax.types import Prediction


class Brightness:
    """Calls bright photos anomalous."""

    weights_hash = "of no weights"
    taken = None
    trained = property(lambda self: self)

    def __init__(self, config):
        self.config = ml_collections.FrozenConfigDict(config)

    def predict_all(self, images, batch_size):
        maps = np.float32(images).mean(-1) / 255
        return Prediction(maps.max((1, 2)), maps, None, None)


@pytest.fixture
def folder(tmp_path, tiny_config):
    """Adds photos by brightness; ``choose`` gives the calibration."""
    tiny_config.data.root = str(tmp_path / "data")
    tiny_config.data.validation_share = 0.1

    class Folder:
        config, workdir, directory = tiny_config, tmp_path / "run", tmp_path / "run" / "tiles"

        def add(self, name, brightness):
            path = tmp_path / "data" / "tiles" / "train" / "good" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((16, 16, 3), brightness, np.uint8)).save(path)
            return path

        def split(self):
            return load_split(tiny_config, self.directory, "tiles")

        def choose(self, **options):
            detector = Brightness(tiny_config)
            return load_or_choose(tiny_config, self.workdir, "tiles", detector, **options)

    for i in range(20):
        Folder().add(f"{i:02d}.png", 10 * i + 5)
    return Folder()


def test_the_split_is_kept_when_photos_are_added(folder):
    before = folder.split()
    assert len(before.held_out) == 6 and len(before.train) == 14
    assert all(len(h) == 64 for h in (before.train | before.held_out).values())
    for i in range(10):
        folder.add(f"0{i}_more.png", 250)
    assert folder.split() == before


def test_every_later_threshold_is_of_the_photos_held_out_then(folder):
    names = [name.rpartition("/")[2] for name in folder.split().held_out]
    wanted = max(10 * int(n[:2]) + 5 for n in names) / 255
    for i in range(7):
        folder.add(f"0{i}_more.png", 250)
    for options in ({}, {"tile": True}):
        assert folder.choose(**options).threshold == pytest.approx(wanted)
    folder.config.evaluation.smoothing = 1
    assert folder.choose().num_held_out_normal == 6
    (folder.directory / "threshold.json").unlink()
    assert folder.choose().threshold == pytest.approx(wanted)


def test_a_threshold_of_other_held_out_photos_is_not_taken(folder):
    before = folder.choose()
    photos = folder.split()
    moved = dict([*photos.train.items()][-7:])
    split.write(folder.directory, photos._replace(held_out=moved))
    assert folder.choose().num_held_out_normal == 7
    assert folder.choose().threshold != before.threshold


def test_another_rate_needs_no_photos(folder):
    folder.config.data.validation_share = 0.5
    largest = folder.choose().threshold
    there, folder.config.data.root = folder.config.data.root, "nowhere"
    folder.config.evaluation.false_alarm_rate = 0.3
    assert folder.choose().threshold < largest
    folder.config.evaluation.smoothing = 1
    with pytest.raises(DataError, match="10 of 10 normal photos .* are gone from nowhere"):
        folder.choose()
    folder.config.data.root = there
    assert folder.choose().num_held_out_normal == 10


def test_a_detector_of_oblong_photos_needs_no_photos_again(folder):
    folder.config.image_size = ()  # a pair may take the place of a number
    folder.config.image_size = (16, 24)
    for i in range(60):
        folder.add(f"{i:02}.png", 4 * i)
    first = folder.choose()
    shutil.rmtree(folder.config.data.root)
    assert folder.choose() == first


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_a_held_out_photo_that_is_not_as_it_was_is_named(folder, tmp_path, change):
    name = next(iter(folder.split().held_out))
    path = tmp_path / "data" / name
    path.unlink() if change == "gone" else folder.add(path.name, 1)
    with pytest.raises(DataError, match=f"1 of 6 normal photos.*{name}"):
        folder.choose()


def test_how_a_folder_differs_from_the_split(folder):
    """Whatever was trained: fitted stages ask the same."""
    photos = folder.split()
    assert split.changes(folder.config, "tiles", photos) == ([], [], [])
    gone, changed = [*photos.train][:2]
    (Path(folder.config.data.root) / gone).unlink()
    folder.add(Path(changed).name, 1)
    added = folder.add("more.png", 250).relative_to(folder.config.data.root)
    found = split.changes(folder.config, "tiles", photos)
    assert found == ([str(added)], [gone], [changed])
    said = describe_changes(photos, found)
    assert f"1 added ({added}), 1 gone ({gone}), 1 changed ({changed})" in said


def test_a_split_that_nothing_stands_on_is_drawn_anew(folder, capsys):
    """Training stopped at a bad photo; it is taken away, and others are put in."""
    before = folder.split()
    gone = next(iter(before.train))
    (Path(folder.config.data.root) / gone).unlink()
    folder.add("more.png", 250)
    found = settle(folder.config, folder.directory, "tiles")
    names = found.train | found.held_out
    assert gone not in names and "tiles/train/good/more.png" in names
    assert found == folder.split() and capsys.readouterr().err == ""


@pytest.fixture
def trained(folder):
    """``trained(place)`` puts a stage there that was trained on the split."""

    def train(place):
        checkpoints = Checkpoints(place / "network", writes=True)
        made_of = {PHOTOS: folder.split().describe()}
        checkpoints.save(
            1, None, {"x": np.zeros(1)}, made_of, planned_steps=1, metrics={}, best_by=""
        )
        checkpoints.close()

    return train


def test_training_on_that_stopped_at_a_bad_photo_keeps_the_weights_it_begins_from(folder, trained):
    before = folder.split()
    trained(folder.directory)
    bad, _ = folder.add("bad.png", 250), folder.add("more.png", 251)
    settle(folder.config, folder.directory, "tiles", finetune=True)
    bad.unlink()
    after = settle(folder.config, folder.directory, "tiles")
    assert (folder.directory / EARLIER / "network" / "1").is_dir()
    assert len(after.train | after.held_out) == 21 and after == folder.split()
    assert not {*after.held_out.values()} & {*before.train.values()}


def test_killed_while_weights_are_moved_away_it_knows_what_they_have_seen(
    folder, trained, monkeypatch
):
    before = folder.split()
    trained(folder.directory)
    folder.add("more.png", 250)
    with monkeypatch.context() as killed:
        killed.setattr(split, "write", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            settle(folder.config, folder.directory, "tiles", finetune=True)
    after = settle(folder.config, folder.directory, "tiles", finetune=True)
    assert not {*after.held_out.values()} & {*before.train.values()}


def test_shared_networks_stand_on_the_split_of_each_category(folder, trained, capsys):
    """Also where nothing is each one's own, as with DRAEM."""
    before, folder.config.shared = folder.split(), True
    trained(folder.workdir / SHARED)
    shared.settle(folder.workdir / SHARED, {"tiles": before}, retrain=False, finetune=False)
    folder.add("more.png", 250)
    _, after = begin(folder.config, folder.directory, "tiles", How())
    assert after == before == folder.split()
    assert "1 added (tiles/train/good/more.png). --retrain" in capsys.readouterr().err


@pytest.mark.parametrize(("bound", "most"), [("_MOST_VALUES", 20), ("MOST_JSON", 500)])
def test_too_many_photos_are_named_at_the_start(folder, monkeypatch, bound, most):
    """They were trained on for hours, and then the file that lists them was called damaged."""
    monkeypatch.setattr(regular, bound, most)
    with pytest.raises(DataError, match=r"20 normal photos are too many for .*photos\.json"):
        settle(folder.config, folder.directory, "tiles")
    assert not (folder.directory / split.FILE).exists()


def test_a_damaged_split_is_refused(folder):
    folder.split()
    (folder.directory / split.FILE).write_text('{"train"')
    with pytest.raises(DataError, match=r"photos\.json, which says what was held out, is damaged"):
        folder.choose()


def test_a_recording_holds_its_split(folder, tmp_path):
    config = folder.config
    before = split.draw(config, "tiles")
    record(config, tmp_path / "tiles.zip", 2)
    folder.add("added.png", 250)
    config.data.recorded = str(tmp_path / "tiles.zip")
    assert folder.split() == before
    config.data.recorded = ""
    other = tmp_path / "run" / "other"
    split.write(other, before._replace(train=before.held_out, held_out=before.train))
    config.data.recorded = str(tmp_path / "tiles.zip")
    with pytest.raises(
        recorded.RecordingError, match=r"shows photos that .*photos\.json holds out"
    ):
        load_split(config, other, "tiles")


def test_the_stored_file_says_what_it_stands_on(folder):
    found = folder.choose()
    stored = json.loads((folder.directory / "threshold.json").read_text())
    assert stored["threshold"] == found.threshold and stored["weights"] == "of no weights"
    assert stored["photos"] == folder.split().held_out
    assert stored["pixel_threshold"] == found.pixel_threshold


def test_so_many_normal_photos_have_a_pixel_above_the_pixel_threshold(folder):
    """The detector's maps are even, so a photo's largest pixel is its score."""
    folder.config.data.validation_share = 0.5
    numbers = sorted(int(name.rpartition("/")[2][:2]) for name in folder.split().held_out)
    largest = [(10 * n + 5) / 255 for n in numbers]
    for rate, above in ((0.0, 0), (0.2, 1), (0.3, 2)):
        folder.config.evaluation.false_alarm_rate = rate
        assert folder.choose().pixel_threshold == pytest.approx(largest[-1 - above])
    own = folder.choose(threshold=0.9)
    assert own.threshold == 0.9 and own.pixel_threshold == pytest.approx(largest[-3])
    folder.config.evaluation.smoothing = 1  # what is stored does not fit, and no photos are there
    folder.config.data.root = "nowhere"
    assert folder.choose(threshold=0.9).pixel_threshold is None


def test_without_held_out_photos_there_is_no_threshold(folder):
    folder.config.data.validation_share = 0.0
    found = folder.choose()
    assert found.threshold is None and found.pixel_threshold is None


def test_with_too_few_held_out_photos_there_is_no_threshold(folder):
    for i in range(17, 20):
        (folder.directory.parents[1] / f"data/tiles/train/good/{i}.png").unlink()
    found = folder.choose()
    assert found.threshold is None and found.pixel_threshold is None
    assert found.false_alarms is None and len(found.held_out_scores) == 5
    assert "5 held-out normal photos are too few" in found.why_no_threshold
    assert "18 good photos or more" in found.why_no_threshold
    assert json.loads((folder.directory / "threshold.json").read_text())["threshold"] is None
    assert folder.choose(threshold=0.5).threshold == 0.5


def test_the_photo_that_sets_the_threshold_is_named_unless_there_are_several(folder):
    found = folder.choose()
    name = found.held_out_names[found.held_out_scores.index(found.threshold)]
    assert f"the score of {name}: look whether it" in found.describe_decider()
    same = (found.threshold,) * len(found.held_out_scores)
    assert dataclasses.replace(found, held_out_scores=same).describe_decider() == ""


def test_an_outlier_is_named_and_does_not_choose(folder, capsys):
    second = folder.choose().threshold
    (folder.directory / "threshold.json").unlink()
    (folder.directory / split.FILE).unlink()
    held_out = sorted(folder.split().held_out)
    (folder.directory / split.FILE).unlink()
    name = held_out[-1].rpartition("/")[2]  # the brightest
    for each in held_out:  # closer together than an eighth of what parts them from the outlier
        each = each.rpartition("/")[2]
        folder.add(each, 250 if each == name else 100 + int(each[:2]))
    found = folder.choose()
    assert found.threshold < second and found.threshold < 130 / 255
    assert found.pixel_threshold == found.threshold
    said = capsys.readouterr().err
    assert f"{name} (score 0.9804); not counted for the threshold" in said
    assert (found.false_alarms.above, found.false_alarms.of) == (1, 6)
    folder.config.evaluation.false_alarm_rate = 0.0
    assert folder.choose().threshold == pytest.approx(250 / 255)
    assert "; counted for the threshold" in folder.choose().describe_outliers()
    assert capsys.readouterr().err == ""  # it is told once


def test_scores_of_an_earlier_version_serve_on(folder):
    before = folder.choose()
    path = folder.directory / "threshold.json"
    stored = json.loads(path.read_text())
    del stored["predictions"]["names"], stored["false_alarms"]
    path.write_text(json.dumps(stored))
    folder.config.data.root = "nowhere"
    assert folder.choose() == before


def test_a_read_only_folder_takes_another_rate_and_keeps_nothing(folder, monkeypatch, capsys):
    strict = folder.choose().threshold
    stored = (folder.directory / "threshold.json").read_bytes()

    def refuse(path, text):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("diffad_jax.runtime.files.write_whole", refuse)
    folder.config.evaluation.false_alarm_rate = 0.5
    loose = folder.choose().threshold
    assert loose < strict and (folder.directory / "threshold.json").read_bytes() == stored
    assert f"threshold {loose}, found anew and not kept: " in capsys.readouterr().err


def test_a_method_that_scores_otherwise_has_another_threshold(tiny_config, monkeypatch):
    """Its words say so, where an update changes them."""
    before = score_settings(tiny_config, False)
    method = get_method(tiny_config)
    changed = dataclasses.replace(method, describe=lambda config: {"map": "another formula"})
    monkeypatch.setitem(METHODS, tiny_config.method, changed)
    assert score_settings(tiny_config, False) != before
