"""Photos of several products: each is scored by its own product's detector, or by none."""

import csv
import io
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import Brightness
from PIL import Image

from diffad_jax.commands import predict_products
from diffad_jax.commands.predict import How, UnreadableError
from diffad_jax.errors import ConfigError


def read_table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def call(together, tmp_path, monkeypatch):
    together.normal_level.floor = 0.0
    for name in together.categories:
        (tmp_path / "work" / name).mkdir(parents=True)
    detectors = {name: Brightness(together) for name in ("tiles", "lamps")}
    levels = {"tiles": 50, "lamps": 200}

    def nearest(distances):
        least = min(range(2), key=distances.__getitem__)
        return list(detectors)[least] if distances[least] <= 1.0 else ""

    def distances(pixels):
        seen = pixels.astype(float).mean((1, 2, 3))
        return np.stack([abs(seen - level) / 20.0 for level in levels.values()], axis=1)

    told = types.SimpleNamespace(detectors=detectors, nearest=nearest, distances=distances)
    monkeypatch.setattr(predict_products, "of_workdir", lambda *_: told)
    source = tmp_path / "in"
    source.mkdir()
    for name, level in (("a", 45), ("b", 205), ("c", 60), ("d", 128)):
        Image.fromarray(np.full((20, 24, 3), level, np.uint8)).save(source / f"{name}.png")
    (source / "e.png").write_bytes(b"no photo")
    return lambda source=source, **how: predict_products.predict_products(
        together, tmp_path / "work", source, tmp_path / "out", How(save=(), **how)
    )


def test_each_photo_goes_to_its_product_and_a_strange_one_to_none(call, tmp_path, capsys):
    with pytest.raises(UnreadableError, match="2 of 5 photos have no score") as error:
        call()
    assert error.value.exit_status == 3
    assert "d.png is like none of tiles, lamps" in str(error.value) and "e.png" in str(error.value)
    table = {Path(row["file"]).name: row for row in read_table(tmp_path / "out/products.csv")}
    assert {n: row["product"] for n, row in table.items()} == {
        "a.png": "tiles", "b.png": "lamps", "c.png": "tiles", "d.png": "", "e.png": ""
    }  # fmt: skip
    assert table["a.png"]["distance_tiles"] == "0.25" and table["e.png"]["distance_tiles"] == ""
    for product, names in (("tiles", ["a.png", "c.png"]), ("lamps", ["b.png"])):
        rows = read_table(tmp_path / "out" / product / "predictions.csv")
        assert [Path(row["file"]).name for row in rows] == names and all(
            row["score"] for row in rows
        )
    said = capsys.readouterr().out
    assert "tiles: 2 of 5 photos" in said and "lamps: 1 of 5 photos" in said


def test_an_error_of_one_product_leaves_the_photos_of_the_others_scored(call, tmp_path):
    name = f"{'a' * 250}.png"  # its thumbnail's name is too long
    (tmp_path / "in/a.png").rename(tmp_path / "in" / name)
    with pytest.raises(UnreadableError, match="2 of 5 photos have no score") as error:
        call()
    assert str(error.value).startswith("tiles: 1 of 2 photos could not be read")
    (row,) = read_table(tmp_path / "out/lamps/predictions.csv")
    assert row["score"]


def test_a_name_is_no_formula_in_the_table_of_products(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "in")
    Path("a.png").rename("=a.png")
    listed = io.TextIOWrapper(io.BytesIO(b"=a.png\n"))
    monkeypatch.setattr("sys.stdin", listed)
    call(source="-")
    (row,) = read_table(tmp_path / "out/products.csv")
    assert row["file"] == "'=a.png"


def test_flags_of_one_category_are_refused(call):
    with pytest.raises(ConfigError, match="--threshold and --shard go with one category"):
        call(threshold=0.5)
