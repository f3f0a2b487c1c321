"""Which photos a prediction finds and reads: folders, globs, lists, any kind of picture."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffad_jax.commands.predict import UnreadableError
from diffad_jax.data.layouts import DataError
from diffad_jax.inference import sources
from diffad_jax.inference.writer import PICTURES


def names(listing):
    return [photo.name for photo in listing.photos]


def test_a_folder_without_what_lies_in_the_output(line):
    for name in ("b.png", "a/b.png", "out/a/b.png.overlay.png", ".hidden.png", "note.txt.png"):
        line.add(name)
    listing = sources.list_photos(line.source, line.source / "out")
    assert names(listing) == ["a/b.png", "b.png", "note.txt.png"]
    assert listing.root == str(line.source)
    assert names(sources.list_photos(line.source / "a", line.source)) == ["b.png"]
    with pytest.raises(DataError, match="holds the photos themselves"):
        sources.list_photos(line.source, line.source)


def test_globs(line, monkeypatch):
    for name in ("x/1.png", "x/2.jpg", "y/deep/1.png", "y/1.JPG"):
        line.add(name)
    (line.source / "x" / "notes.txt").write_text("")
    for pattern, found in {
        "*/1.*": ["x/1.png", "y/1.JPG"],
        "**/*": ["x/1.png", "x/2.jpg", "y/1.JPG", "y/deep/1.png"],
        "x/[12].png": ["x/1.png"],
    }.items():
        listing = sources.list_photos(line.source / pattern, line.output)
        root = Path(listing.root)
        assert [str((root / n).relative_to(line.source)) for n in names(listing)] == found
    assert names(sources.list_photos(line.source / "x/2.jpg", line.output)) == ["2.jpg"]
    monkeypatch.chdir(line.source / "x")
    assert names(sources.list_photos(Path("*.png"), line.output)) == ["1.png"]
    with pytest.raises(DataError, match=r"no photo in .*none\*: --input must be a folder"):
        sources.list_photos(line.source / "none*", line.output)


def list_stdin(monkeypatch, text, output):
    stdin = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", stdin)
    return sources.list_photos(Path("-"), output)


def test_a_list_on_stdin(line, monkeypatch):
    inside = [line.add(name) for name in ("a.png", "b/a.png")]
    monkeypatch.chdir(line.source)
    text = f"a.png\r\n\n  \nb/../b/a.png\n{inside[0]}\nmissing.png\nb\xff.png".encode("latin-1")
    listing = list_stdin(monkeypatch, text, line.output)
    assert listing.root == str(line.source)
    assert names(listing) == ["a.png", "b/a.png", "missing.png", os.fsdecode(b"b\xff.png")]
    assert listing.photos[0].num_bytes == inside[0].stat().st_size
    assert listing.photos[2].num_bytes is None
    monkeypatch.chdir(line.source / "b")
    listing = list_stdin(monkeypatch, b"a.png\n../a.png\n", line.output)
    assert listing.root == "/" and names(listing) == [str(p)[1:] for p in reversed(inside)]
    with pytest.raises(DataError, match="one path a line"):
        list_stdin(monkeypatch, b"\n", line.output)


def test_what_a_list_may_hold(line, monkeypatch, capsys):
    """Missing files, a folder, names that are no UTF-8 or too long for their pictures."""
    line.add("good.png")
    odd = os.fsencode(line.source) + b"/odd\xff.png"
    with open(odd, "wb") as file:
        file.write((line.source / "good.png").read_bytes())
    long = line.add("l" * 245 + ".png").name
    (line.source / "folder.png").mkdir()
    monkeypatch.chdir(line.source)
    listed = b"\n".join([b"good.png", odd, long.encode(), b"folder.png", b"missing.png"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    with pytest.raises(UnreadableError, match="3 of 5 photos") as caught:
        line(source=Path("-"))
    assert "missing.png: No such file" in str(caught.value)
    assert "cannot be written: [Errno 36]" in str(caught.value)
    rows = line.rows()
    assert (line.output / rows[os.fsdecode(b"odd\xff.png")]["overlay"]).exists()
    assert b"odd\xff.png" in (line.output / "predictions.csv").read_bytes()


def test_many_unreadable_files_are_counted_not_all_printed(line):
    line.add("good.png")
    for i in range(30):
        line.add(f"{i}.png").write_bytes(b"")
    with pytest.raises(UnreadableError, match="30 of 31 photos could not be read") as caught:
        line()
    assert len(str(caught.value).splitlines()) == 22 and "and 10 more" in str(caught.value)
    assert sum(bool(row["error"]) for row in line.table()) == 30


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_any_kind_of_photo(line, mode):
    line.source.mkdir()
    line.config.data.bit_depth = 16
    level = 204  # of the palette, too
    if mode == "I;16":
        image = Image.fromarray(np.full((10, 30), 257 * level, np.uint16))
    else:
        image = Image.fromarray(np.full((10, 30, 3), level, np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(line.source / "a.tiff", exif=exif)
    line(save=PICTURES)
    row = line.rows()["a.tiff"]
    assert (row["height"], row["width"]) == (30, 10)
    assert row["score"] == pytest.approx(level / 255, abs=1e-6)
    for kind in PICTURES:
        height, width = np.asarray(Image.open(line.output / row[kind])).shape[:2]
        assert (height, width) == (30, 10) or (kind in ("overlay", "heat_map") and height > 30)
