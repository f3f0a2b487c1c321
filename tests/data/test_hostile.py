"""Photos, masks and recordings that were damaged, or made to do damage."""

import json
import os
import zipfile
import zlib

import numpy as np
import pytest

from diffad_jax.data import recorded
from diffad_jax.data.recorded import RecordingError
from tests.data import hostile


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_mutants_give_the_readers_own_error(tmp_path, kind):
    """``tests/slow`` reads more of them."""
    refused, read = hostile.fuzz(tmp_path, kind, rounds=300, seed=0)
    assert refused > 50 and read > 5


def rewritten(tmp_path, changes, compression=zipfile.ZIP_STORED):
    """A recording in which some entries hold something else; None leaves one out."""
    hostile.record(tmp_path / "sound.zip")
    with (
        zipfile.ZipFile(tmp_path / "sound.zip") as sound,
        zipfile.ZipFile(tmp_path / "bad.zip", "w", compression) as bad,
    ):
        for name in sound.namelist():
            content = changes.get(name, sound.read(name))
            content = content(sound.read(name)) if callable(content) else content
            if content is not None:
                bad.writestr(name, content)
    return tmp_path / "bad.zip"


def meta(**fields):
    """``meta.json`` with some fields changed; one that is None is left out."""

    def changed(data):
        content = json.loads(data) | fields
        return json.dumps({k: v for k, v in content.items() if v is not None})

    return {"meta.json": changed}


def without(*places):
    def changed(data):
        content = json.loads(data)
        inside = content
        for place in places[:-1]:
            inside = inside[place]
        del inside[places[-1]]
        return json.dumps(content)

    return {"meta.json": changed}


WEBP = recorded._webp(np.zeros((1, 1, 3), np.uint8))
IMAGE, MASK, ADDED = (f"train/0000000.{part}" for part in ("image", "mask", "added"))
WHOLE = {  # found when it is opened
    "no meta": {"meta.json": None},
    "no JSON": {"meta.json": b"{"},
    "deep JSON": {"meta.json": b"[" * 100_000},
    "a list": {"meta.json": b"[]"},
    "no format": meta(format=None),
    "no config": meta(config=None),
    "config is a list": meta(config=[]),
    "no data in the config": without("config", "data"),
    "no image size": without("config", "image_size"),
    "no synthesis": without("config", "synthesis"),
    "no category": meta(photos={}),
    "counts are text": meta(counts={"train": "3"}),
    "counts are negative": meta(counts={"train": -3}),
    "counts are true": meta(counts={"train": True}),
    "counts are no numbers by name": meta(counts=[3]),
    "more examples than there are": meta(counts={"train": 2_000_000_000}),
    "an example is missing": {"train/0000002.image": None},
    "no photos": meta(photos=None),
    "photos are a number": meta(photos={"train": 3, "held_out": {}}),
    "too large a meta": {"meta.json": b" " * (2**26 + 1)},
}
PARTS = {  # found when it is read
    "a picture of 1 × 1": {ADDED: WEBP},
    "no picture": {ADDED: b"x"},
    "a PNG": {ADDED: hostile.PHOTOS[0]},
    "a picture is missing": {ADDED: None},
    "a photo that is not there": {IMAGE: b"photos/none"},
    "a name that is no text": {IMAGE: b"\xff"},
    "a long name": {IMAGE: b"x" * 2000},
    "no mask": {MASK: None},
    "a short mask": {MASK: zlib.compress(bytes(31))},
    "a long mask": {MASK: zlib.compress(bytes(33))},
    "a cut mask": {MASK: zlib.compress(bytes(range(32)))[:-6]},
    "an endless mask": {MASK: zlib.compress(bytes(2**26), 9)},
    "not compressed": {MASK: bytes(32)},
}


@pytest.mark.parametrize("changes", WHOLE.values(), ids=WHOLE)
def test_a_damaged_recording_is_named_at_once(tmp_path, changes):
    path = rewritten(tmp_path, changes)
    with pytest.raises(RecordingError, match=r"bad.zip is no (whole )?recording"):
        recorded.Recording(path)


@pytest.mark.parametrize("changes", PARTS.values(), ids=PARTS)
def test_a_damaged_example_is_named(tmp_path, changes):
    recording = recorded.Recording(rewritten(tmp_path, changes))
    with pytest.raises(RecordingError, match=r"bad.zip: example train/0000000 is damaged"):
        recording.example("train", 0)
    recording.example("train", 1)


def test_a_compressed_recording_is_refused(tmp_path):
    """2 MiB of it took 4.3 GiB of memory."""
    path = rewritten(tmp_path, {"meta.json": bytes(2**24)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(RecordingError, match="bad.zip is no whole recording .*is compressed"):
        recorded.Recording(path)


def test_a_large_table_of_contents_is_refused(tmp_path, monkeypatch):
    hostile.record(tmp_path / "sound.zip", examples=9)
    monkeypatch.setattr(recorded, "_MOST_DIRECTORY", 1000)
    with pytest.raises(RecordingError, match="sound.zip is no whole recording .* in one piece"):
        recorded.Recording(tmp_path / "sound.zip")


def test_no_more_is_recorded_than_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "_MOST_EXAMPLES", 3)
    with pytest.raises(RecordingError, match="would hold more than 3 examples: record fewer"):
        hostile.record(tmp_path / "large.zip", examples=2)
    assert not (tmp_path / "large.zip").exists()


def test_a_large_picture_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    large = recorded._webp(np.zeros((900, 900, 3), np.uint8))  # of few bytes
    recording = recorded.Recording(rewritten(tmp_path, {ADDED: large}))
    reader, sizes = recorded.WebPImagePlugin.WebPImageFile, []

    def open_webp(file):
        sizes.append(recorded._webp_size(file.getvalue()))
        return reader(file)

    monkeypatch.setattr(recorded.WebPImagePlugin, "WebPImageFile", open_webp)
    with pytest.raises(RecordingError, match="is no picture of 16 × 16 pixels"):
        recording.example("train", 0)
    assert sizes == [(16, 16)]  # of the photo alone


def test_a_pipe_is_no_recording(tmp_path):
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(RecordingError, match="pipe.zip is no whole recording .*no regular file"):
        recorded.Recording(tmp_path / "pipe.zip")
