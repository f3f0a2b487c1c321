"""``run.py`` of an exported folder: its table, and what it does not replace."""

import copy
import csv
import json
import os
import sys
from pathlib import Path

import exported_folder
import numpy as np
import pytest
from PIL import Image

from diffad_jax.export import run

FORMULAS = ["=1+2.png", "+a.png", "-a.png", "@a.png", "\ta.png", "a;=b.png", "＝a.png"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current folder with an exported one, whose model finds 0.7 in every photo."""
    exported_folder.write(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(path, "PNG")


def call(monkeypatch, *arguments, anomaly_map=None, score=0.7) -> object:
    """The command; gives its exit status."""
    maps = np.zeros((1, 16, 16), np.float32) if anomaly_map is None else anomaly_map[None]
    found = {"score": np.array([score]), "anomaly_map": maps}
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        run.main(Path("model"), lambda *_: lambda pixels, seed: found)
    return end.value.code


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("readable", [True, False])
def test_a_name_is_no_formula(place, monkeypatch, name, readable):
    photo(Path(name)) if readable else Path(name).write_bytes(b"")
    assert call(monkeypatch, "--output=out", "--", name) == int(not readable)
    with open("out/predictions.csv", encoding="utf-8", newline="") as file:
        row = list(csv.DictReader(file))[0]
    assert row["file"] == name.replace(name.lstrip("a;"), f"'{name.lstrip('a;')}")
    assert row["score"] == ("0.700000" if readable else "")


def test_any_name_is_written_and_shown(place, monkeypatch, capfdbinary):
    name = os.fsdecode(b"\xff.png")
    photo(Path(name))
    assert call(monkeypatch, "--output=out", name) == 0
    assert b"\xff.png,0.700000,1,anomalous" in Path("out/predictions.csv").read_bytes()
    assert call(monkeypatch, name) == 0


def test_in_a_folder_it_takes_what_predict_takes(place, monkeypatch, capsys):
    """And pixels, whose suffix may be in any case, too."""
    photo(Path("in/A.PNG"))
    with Path("in/B.NPY").open("wb") as file:
        np.save(file, np.zeros((16, 16, 3), np.uint8))
    Path("in/folder.png").mkdir()
    assert call(monkeypatch, "in") == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert rows == [f"in/{name},0.700000,1,anomalous" for name in ("A.PNG", "B.NPY")]


@pytest.mark.parametrize("data", [b"", b"PK\3\4cut off"])
def test_pixels_that_are_none_are_one_unreadable_file(place, monkeypatch, capsys, data):
    photo(Path("in/b.png"))
    Path("in/a.npy").write_bytes(data)
    assert call(monkeypatch, "in") == 1
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.startswith('in/a.npy,,,"unreadable: ') and second.startswith("in/b.png,0.7")


def test_a_score_that_is_no_number_is_no_verdict(place, monkeypatch):
    photo(Path("a.png"))
    assert "the score of a.png is nan" in call(monkeypatch, "a.png", score=np.nan)


def test_photos_may_be_as_large_as_the_detectors(place, monkeypatch, capsys):
    card = copy.deepcopy(exported_folder.CARD)
    card["preprocessing"]["photo_mib"] = 16 * 16 * 3 / 2**20
    Path("model/SHA256SUMS").unlink()
    exported_folder.write(Path("model"), card)
    photo(Path("a.png"))
    Image.new("RGB", (16, 17)).save("b.png")
    assert call(monkeypatch, "a.png") == 0
    assert call(monkeypatch, "b.png") == 1
    assert "16 × 17 pixels, which take" in capsys.readouterr().out


def test_nothing_is_replaced_unasked(place, monkeypatch):
    photo(Path("a.png"))
    assert call(monkeypatch, "a.png", "--output=out") == 0
    table = Path("out/predictions.csv").read_bytes()
    photo(Path("b.png"))
    there = str(call(monkeypatch, "b.png", "--output=out"))
    assert "out/predictions.csv is there already" in there and "--overwrite" in there
    assert Path("out/predictions.csv").read_bytes() == table
    for name in ("csv", "jsonl"):
        Path(f"out/predictions.{name}").unlink()
    assert "out/a.png.overlay.png is there already" in call(monkeypatch, "a.png", "--output=out")
    assert call(monkeypatch, "a.png", "b.png", "--output=out", "--overwrite") == 0
    assert len(Path("out/predictions.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_of_two_at_once_one_has_the_table(place, monkeypatch, flags):
    """The other one begins after the check, while the graph is loaded."""
    photo(Path("a.png"))
    others, check = [], run._check_output

    def checked(output, files, overwrite):
        check(output, files, overwrite)
        others.append(run._open_table(output, overwrite))

    monkeypatch.setattr(run, "_check_output", checked)
    ended = call(monkeypatch, "a.png", "--output=out", *flags)
    with others[0] as other:
        other.write("theirs\n")
    if flags:  # each writes a file of its own, of which the last one stays
        assert ended == 0 and "theirs" not in Path("out/predictions.csv").read_text()
    else:
        assert "out/predictions.csv has been begun by another call: choose another" in ended
        assert Path("out/predictions.csv").read_text() == "theirs\n"


def test_two_photos_have_two_overlays(place, monkeypatch):
    photo(Path("one/a.png"))
    photo(Path("two/a.png"))
    said = call(monkeypatch, "one", "two", "--output=out")
    assert "out/a.png.overlay.png would be of two photos" in said
    assert not Path("out").exists()
    assert call(monkeypatch, "one", "two") == 0


def test_regions_are_in_pixels_of_the_photo(place, monkeypatch):
    Image.new("RGB", (32, 64)).save("a.png")
    Path("b.png").write_bytes(b"")
    anomaly_map = np.zeros((16, 16), np.float32)
    anomaly_map[2:4, 3:7] = 0.75
    anomaly_map[3, 5] = 0.875
    anomaly_map[10, 10] = 0.625
    call(monkeypatch, "a.png", "b.png", "--output=out", anomaly_map=anomaly_map)
    photo, unreadable = map(json.loads, Path("out/predictions.jsonl").read_text().splitlines())
    assert (photo["file"], photo["score"], photo["is_anomalous"]) == ("a.png", 0.7, True)
    assert (photo["pixel_threshold"], photo["width"], photo["height"]) == (0.6, 32, 64)
    assert photo["num_regions"] == 2 and photo["error"] is None
    assert photo["regions"] == [
        {"box": [6, 8, 8, 8], "area": 64, "peak": 0.875, "peak_at": [11, 14]},
        {"box": [20, 40, 2, 4], "area": 8, "peak": 0.625, "peak_at": [21, 42]},
    ]
    assert unreadable["score"] is None and "b.png" in unreadable["error"] + unreadable["file"]
    Path("out/predictions.csv").unlink()
    assert "out/predictions.jsonl is there already" in call(monkeypatch, "a.png", "--output=out")


def test_a_reader_that_has_seen_enough_ends_it(place, monkeypatch, capfd):
    for name in ("a.png", "b.png"):
        photo(Path(name))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert call(monkeypatch, "a.png", "b.png") == 0
        stream.write("what Python flushes at the exit")
    assert capfd.readouterr().err == ""
