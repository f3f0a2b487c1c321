"""Photos in a bucket (gs://…), from listing to prediction; the storage is one in memory."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from absl import flags

from diffad_jax.commands import modes, train
from diffad_jax.commands.predict import UnreadableError
from diffad_jax.commands.record import record
from diffad_jax.data import images, layouts, listing, recorded
from diffad_jax.data.anomaly_folder import AnomalyFolderConfig
from diffad_jax.data.listing import DataError
from diffad_jax.errors import UserError
from diffad_jax.runtime import mirror, storage
from diffad_jax.training.fingerprint import describe_photos
from tests.bucket import Bucket

ROOT = "gs://bucket/photos"


def test_listing_and_reading(bucket, photos):
    here = layouts.read_category(photos, "tiles", "mvtec")
    there = layouts.read_category(ROOT, "tiles", "mvtec")
    assert [r.file for r in there] == [r.file.replace(photos, ROOT) for r in here]
    assert [r.mask for r in there] == [r.mask and r.mask.replace(photos, ROOT) for r in here]
    for mine, its in zip(here, there, strict=True):
        rules = images.Rules("bilinear")
        assert images.photo_facts(mine.file, rules) == images.photo_facts(its.file, rules)
    assert describe_photos(r.file for r in there) == describe_photos(r.file for r in here)
    assert layouts.list_categories(ROOT, "mvtec") == ["tiles"]
    found, _ = listing.find_photos(ROOT)
    assert [f.replace(ROOT, photos) for f in found] == listing.find_photos(photos)[0]
    name = AnomalyFolderConfig(root=ROOT, category="tiles").name
    assert name == AnomalyFolderConfig(root=ROOT, category="tiles").name


def test_what_is_wrong_is_named(bucket):
    bucket.pipe("gs://bucket/photos/tiles/train/good/a.webp", b"x")
    assert "1 .webp" in layouts.survey(ROOT, "tiles", "mvtec").left_out[0]
    with pytest.raises(DataError, match="no folder gs://bucket/nowhere"):
        layouts.read_category("gs://bucket/nowhere", "tiles", "mvtec")


def test_a_table(bucket):
    rows = "object,split,label,image,mask\ntiles,train,normal,tiles/train/good/000.png,\n"
    bucket.pipe("gs://bucket/photos/split_csv/1cls.csv", rows.encode())
    assert len(layouts.read_category(ROOT, "tiles", "visa")) == 1
    bucket.pipe("gs://bucket/photos/split_csv/1cls.csv", rows.replace("000", "/../1").encode())
    with pytest.raises(DataError, match="which is no place below gs://bucket/photos"):
        layouts.read_category(ROOT, "tiles", "visa")


def test_training_and_evaluating(bucket, tiny_config, tmp_path):
    tiny_config.data.root = tiny_config.data.textures = ROOT
    train.train_and_evaluate(tiny_config, tmp_path, None)
    assert (tmp_path / "metrics.json").exists() and (tmp_path / "tiles/report.html").exists()


def test_a_recording(bucket, tiny_config, tmp_path, monkeypatch):
    """Written through a copy, and fetched once; another one in its place is fetched anew."""
    place, fails, get = f"{ROOT}/tiles.zip", [ConnectionError("reset")], Bucket.get_file
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(storage, "_PAUSES", (0, 0, 0))
    fetched = []

    def flaky(self, *args, **kwargs):
        if fails:
            raise fails.pop()
        fetched.append(args)
        return get(self, *args, **kwargs)

    def write(number):
        mirrors = mirror.Mirrors()
        local = mirrors.local_copy(place)
        with mirrors.kept():
            record(tiny_config, local, number, overwrite=True)

    def batch(path):
        tiny_config.data.recorded = str(path)
        return next(recorded.batches(tiny_config, ["tiles"], split="train", batch_size=4))

    write(8)
    bucket.get_file(place, tmp_path / "here.zip")
    monkeypatch.setattr(Bucket, "get_file", flaky)
    here, there = batch(tmp_path / "here.zip"), batch(place)
    for name, value in here.items():
        np.testing.assert_array_equal(there[name], value)
    batch(place)
    assert not fails and len(fetched) == 1
    write(9)
    assert recorded.Recording(place).count("train") == 9
    assert len([*(tmp_path / "cache").rglob("tiles.zip")]) == 1


def test_a_recording_that_cannot_be_fetched_is_named(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(storage, "_PAUSES", (0, 0, 0))
    with pytest.raises(recorded.RecordingError, match="there is no gs://bucket/a.zip; write it"):
        recorded.Recording("gs://bucket/a.zip")
    with pytest.raises(recorded.RecordingError, match=f"{ROOT} cannot be fetched: .*is a folder"):
        recorded.Recording(ROOT)

    for error, said in (
        (ConnectionError("reset"), "reset"),
        (ImportError("Install gcsfs"), r"Install gcsfs: pip install 'diffad_jax\[gs\]'"),
    ):
        monkeypatch.setattr(Bucket, "info", mock.Mock(side_effect=error))
        with pytest.raises(recorded.RecordingError, match=f"a.zip cannot be fetched: {said}"):
            recorded.Recording("gs://bucket/a.zip")


def test_predicting(bucket, line, photos):
    """The same rows as of the folder; what is there is not scored again."""
    bucket.pipe("gs://bucket/photos/tiles/test/good/bad.png", b"junk")
    bucket.pipe("gs://bucket/photos/tiles/test/.hidden/a.png", b"junk")
    line.output = line.output / "there"
    with pytest.raises(UnreadableError, match="gs://bucket/photos/tiles/test/good/bad.png"):
        line(f"{ROOT}/tiles/test")
    there = line.rows()
    assert there.pop("good/bad.png")["error"]
    assert there["good/000.png"]["modified_ns"] and there["good/000.png"]["bytes"]
    with pytest.raises(UnreadableError):
        line(f"{ROOT}/tiles/test/")
    assert not line.detector.seen
    line.output = line.output.parent / "here"
    line(Path(photos) / "tiles" / "test")
    here = line.rows()
    assert there.keys() == here.keys() and len(here) == 6
    assert all(there[name]["score"] == here[name]["score"] for name in here)
    line(f"{ROOT}/tiles/*/good/00?.png", overwrite=True)
    assert {"train/good/000.png", "test/good/002.png"} < line.rows().keys()
    line(f"{ROOT}/tiles/train/good/004.png")  # a photo alone, which has its row by now
    assert not line.detector.seen
    for nothing in (f"{ROOT}/nowhere", f"{ROOT}/nowhere/*.png"):
        with pytest.raises(
            DataError, match="no photo in gs://bucket/photos/nowhere|cannot be list"
        ):
            line(nothing)


def test_folders_are_listed_as_they_are_taken(bucket, monkeypatch):
    """Memory does not hold all that lies in a bucket."""
    listed, ls = [], Bucket.ls
    monkeypatch.setattr(Bucket, "ls", lambda self, path, **how: listed.append(path) or ls(
        self, path, **how))  # fmt: skip
    names = [f"gs://bucket/days/{i:02}/{name}" for i in range(40) for name in ("a.png", "b.png")]
    for name in names:
        bucket.pipe(name, b"x")
    root, found = storage.find("gs://bucket/days")
    first = next(found)
    assert len(listed) < 20
    assert root == "gs://bucket/days" and sorted(f.path for f in [first, *found]) == names
    with pytest.raises(FileNotFoundError):
        storage.find("gs://bucket/nowhere")


def test_a_request_that_fails_is_made_again(bucket, monkeypatch):
    name = f"{ROOT}/tiles/train/good/000.png"
    waited, fails, get = [], [], Bucket._open
    monkeypatch.setattr(storage.time, "sleep", waited.append)

    def flaky(self, path, *args, **kwargs):
        if fails:
            raise fails.pop()
        return get(self, path, *args, **kwargs)

    monkeypatch.setattr(Bucket, "_open", flaky)
    fails[:] = [ConnectionError("reset")] * 3
    wanted = storage.read(name, 2**20)
    assert wanted.startswith(b"\x89PNG") and waited == [0.5, 2.0, 8.0]
    assert [*storage.ahead([name], 2**20, 2**20)][0].data == wanted
    fails[:] = [ConnectionError("reset")] * 4
    with pytest.raises(images.ImageError, match=f"cannot read {name}: reset"):
        images.read_image(name, 8, images.Rules("bilinear"))
    waited.clear()
    with pytest.raises(FileNotFoundError):
        storage.read(f"{ROOT}/none.png", 2**20)
    assert not waited
    with pytest.raises(OSError, match="larger than 9.5"):
        storage.read(name, 100)


def test_what_must_lie_on_this_machine_says_so():
    with pytest.raises(flags.IllegalFlagValueError, match="a folder of this machine: copy what"):
        flags.FLAGS["corrections"].parse("gs://bucket/runs")
    with pytest.raises(UserError, match="--input=s3://b/a.pth: --mode=import reads files of this"):
        modes._import(None, None, "s3://b/a.pth")
