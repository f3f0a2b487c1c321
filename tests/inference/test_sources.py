"""Which photos are scored, whatever their names and their list hold; what is not is named."""

import io
import os
from pathlib import Path

import pytest

from diffad_jax.data.listing import DataError
from diffad_jax.inference import sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(source):
    return [p.name for p in sources.list_photos(Path(source), Path("out")).photos]


def test_wildcards_in_names_that_are_there(folder):
    make(
        folder,
        "IMG [1].png",
        "IMG 1.png",
        "new [2]/a.png",
        "new [2]/b.png",
        "new 2/c.png",
        "x*.png",
    )
    assert names(folder / "IMG [1].png") == ["IMG [1].png"]
    assert names(folder / "new [2]") == ["a.png", "b.png"]
    assert names(folder / "new [2]" / "*.png") == ["a.png", "b.png"]
    assert names(folder / "x*.png") == ["x*.png"]
    assert names(folder / "IMG [0-9].png") == ["IMG 1.png"]


def test_the_home_folder(folder, monkeypatch):
    make(folder, "a.png")
    for source in ("~/photos", "~/photos/a.png", "~/photos/*.png"):
        assert names(source) == ["a.png"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"~/photos/a.png\n")))
    assert names("-") == ["photos/a.png"]


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_of_any_system(folder, coding, monkeypatch):
    make(folder, "größe.png", "b.webp")
    text = "photos/größe.png\r\nphotos/b.webp\r\n".encode(coding)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert names("-") == ["photos/größe.png", "photos/b.webp"]


def test_a_list_with_a_nul(folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\0b.png\n")))
    found = sources.list_photos(Path("-"), Path("out"))
    assert found.photos[0].num_bytes is None  # reading it will say why


def test_what_is_not_scored_is_named(folder, caplog):
    make(folder, "a.png", "b.webp", "day/c.gif", "day/notes.txt")
    (folder / "again").symlink_to(folder / "day")
    make(folder / "out", "a.png.overlay.png", "predictions.jsonl")
    found = sources.list_photos(folder, folder / "out")
    assert [p.name for p in found.photos] == ["a.png"]
    said = [r.getMessage().replace(f"{folder}", "photos").split(":")[0] for r in caplog.records]
    assert said == [
        "photos/again is a link to a folder, which is not followed",
        "1 file is not read in photos (1 .webp)",
        "1 file is not read in photos/day (1 .gif)",
    ]
    caplog.clear()
    assert names(folder / "*") == ["a.png"]
    assert "1 file is not read in" in caplog.text and "1 .webp" in caplog.text


def test_only_files_that_are_not_read(folder):
    make(folder, "a.webp")
    with pytest.raises(DataError, match=r"no photo in .*; 1 file is not read in .*1 \.webp"):
        names(folder)


def test_names_that_are_no_utf_8(folder):
    make(folder, os.fsdecode(b"b\xff.png"))
    assert names(folder) == [os.fsdecode(b"b\xff.png")]
