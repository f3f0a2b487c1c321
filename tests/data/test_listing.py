"""What a folder holds, and the words on what is not read in it."""

import pytest

from diffad_jax.data import listing
from diffad_jax.data.listing import DataError


def test_find_photos_goes_down_and_around_loops(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    for name in ("a/ü" + "x" * 200 + ".png", "b.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = [p.removeprefix(f"{tmp_path}/")[:3] for p in listing.find_photos(tmp_path)[0]]
    assert found == ["a/ü", "b.J"]
    assert listing.find_photos(tmp_path / "missing") == ([], [])

    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(listing.os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot read the folder .*: Permission denied"):
        listing.find_photos(tmp_path)


def test_what_is_no_photo_is_counted_by_suffix(tmp_path):
    names = ("a.png", "b.webp", "c.WEBP", "d.jfif", "e", "notes.txt", "Thumbs.db", "sub/f.gif")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    photos, notes = listing.find_photos(tmp_path)
    assert photos == [str(tmp_path / "a.png")]
    assert notes[0] == f"{tmp_path / 'link'} is a link to a folder, which is not followed"
    assert notes[2].startswith(
        f"4 files are not read in {tmp_path} (2 .webp, 1 .jfif, 1 no suffix): photos are .bmp, "
    )
    assert notes[1].startswith(f"1 file is not read in {tmp_path / 'sub'} (1 .gif)")


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_of_windows_and_others(coding):
    assert list(listing.lines("größe\nb".encode(coding), "\n")) == ["größe\n", "b"]
    assert list(listing.lines(b"b\xff", "\n", "surrogateescape")) == ["b\udcff"]
