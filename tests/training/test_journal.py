"""What training leaves to be looked at."""

import json
import struct

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from diffad_jax.training.journal import Journal


def lines(directory):
    return [json.loads(x) for x in (directory / "metrics.jsonl").read_text().splitlines()]


def write(directory, steps, *, start=0, stage="denoiser"):
    journal = Journal(directory, f"tiles/{stage}", stage, start)
    for step in steps:
        journal.write(step, {"loss": step / 2, "flop_per_second": None})
    journal.close()


def events(directory):
    """A file of events is a row of records: length, its checksum, an event, its checksum."""
    for file in sorted(directory.glob("events.*")):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def points(directory):
    """{(tag, step): value} of curves, and what is beside them."""
    return {
        (value.tag, event.step): value
        for event in events(directory)
        for value in event.summary.value
    }


def test_a_line_and_a_point_for_each_entry(tmp_path):
    write(tmp_path, [1, 2])
    assert lines(tmp_path) == [
        {"stage": "tiles/denoiser", "step": s, "loss": s / 2, "flop_per_second": None}
        for s in (1, 2)
    ]
    found = points(tmp_path / "tensorboard" / "denoiser")
    assert {key: value.simple_value for key, value in found.items()} == {
        ("denoiser/loss", 1): 0.5,
        ("denoiser/loss", 2): 1.0,
    }


def test_going_on_from_a_checkpoint_forgets_what_came_after_it(tmp_path):
    write(tmp_path, [1, 2, 3], stage="autoencoder")
    write(tmp_path, [1, 2, 3, 4])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "tiles/denoiser", "st')  # killed while it wrote
    write(tmp_path, [3], start=2)
    assert [(e["stage"], e["step"]) for e in lines(tmp_path)] == [
        *(("tiles/autoencoder", s) for s in (1, 2, 3)),
        *(("tiles/denoiser", s) for s in (1, 2, 3)),
    ]
    starts = [e for e in events(tmp_path / "tensorboard" / "denoiser") if e.HasField("session_log")]
    assert [e.step for e in starts] == [1, 3]  # TensorBoard drops points from there on


def test_pictures_are_a_sheet_and_an_image_in_tensorboard(tmp_path):
    columns = {"photo": np.zeros((2, 16, 16, 3)), "map": np.ones((2, 16, 16, 3))}
    journal = Journal(tmp_path, "tiles/denoiser", "denoiser", 0)
    journal.show(7, columns)
    journal.close()
    with Image.open(tmp_path / "pictures" / "denoiser.png") as sheet:
        assert sheet.width > 2 * 160 and sheet.height > 2 * 160
        size = sheet.width, sheet.height
    image = points(tmp_path / "tensorboard" / "denoiser")["denoiser", 7].image
    assert (image.width, image.height) == size


@pytest.mark.parametrize("process", [1, 3])
def test_only_process_0_writes(process, tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: process)
    write(tmp_path, [1])
    Journal(tmp_path, "tiles/denoiser", "denoiser", 0).show(1, {})
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboardx_the_lines_remain(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    write(tmp_path, [1])
    assert len(lines(tmp_path)) == 1
    assert not (tmp_path / "tensorboard").exists()
