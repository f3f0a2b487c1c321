"""Prediction with a detector whose answers are known: files in, tables and pictures out."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffad_jax.commands.predict import UnreadableError
from diffad_jax.data.layouts import DataError
from diffad_jax.errors import ConfigError
from diffad_jax.inference import batching
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.inference.writer import PICTURES


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_scores_verdicts_and_pictures(line, capsys):
    line.add("a.png", 10)
    line.add("a.jpg", 250)
    line.add("deep/a.png", 200, (8, 30))
    line(save=PICTURES)
    limit = json.loads((line.workdir / "tiles" / "threshold.json").read_text())["threshold"]
    assert 10 / 255 < limit < 200 / 255
    rows = line.rows()
    assert list(rows) == ["a.jpg", "a.png", "deep/a.png"]
    assert [row["is_anomalous"] for row in rows.values()] == [True, False, True]
    assert rows["deep/a.png"]["score"] == pytest.approx(200 / 255)
    assert (rows["deep/a.png"]["height"], rows["deep/a.png"]["width"]) == (8, 30)
    table = line.table()
    assert list(table[0]) == [
        "file", "score", "is_anomalous", "threshold", "detector", *PICTURES, "error"
    ]  # fmt: skip
    assert {row["threshold"] for row in table} == {f"{limit:.6f}"}
    assert [row["is_anomalous"] for row in table] == ["1", "0", "1"]
    assert table[2]["file"] == str(line.source / "deep/a.png")
    shown = {kind: pixels(line.output / rows["deep/a.png"][kind]) for kind in PICTURES}
    assert shown["mask"].shape == (8, 30) and shown["reconstruction"].shape == (8, 30, 3)
    for kind in ("overlay", "heat_map"):  # with a legend below
        assert shown[kind].shape[0] > 8 and shown[kind].shape[1] > 30
    assert (shown["reconstruction"] == 100).all()
    assert (shown["heat_map"][:8, :30, 0] > shown["heat_map"][:8, :30, 2]).all()  # warm
    assert (shown["mask"] == 255).all() and not pixels(line.output / rows["a.png"]["mask"]).any()
    assert rows["deep/a.png"]["regions"] == [
        {"box": [0, 0, 30, 8], "area": 240, "peak": pytest.approx(200 / 255), "peak_at": [0, 0]}
    ]
    assert rows["a.png"]["regions"] == [] and rows["a.png"]["num_regions"] == 0
    assert len({row[kind] for row in rows.values() for kind in PICTURES}) == 12
    said = capsys.readouterr().out
    assert f"2 anomalous, 1 normal, 0 unreadable; threshold {limit:.4g}\n" in said
    assert str(line.output / "predictions.html") in said
    for row in rows.values():
        assert max(pixels(line.output / row["thumbnail"]).shape) <= 240
    assert not list(line.output.rglob("*.tmp"))


def test_batches_have_one_size_and_the_order_is_that_of_the_files(line):
    for i in range(11):
        line.add(f"{i:02d}.png", 20 * i)
    line.add("05.png").write_bytes(b"no photo")
    with pytest.raises(UnreadableError, match="1 of 11 photos could not be read"):
        line(save=())
    assert line.detector.batches[-3:] == [4, 4, 2]
    assert line.detector.seen[-10:] == [20 * i for i in range(11) if i != 5]
    scored = [r["name"] for r in line.rows().values() if r["error"] is None]
    assert scored == [f"{i:02d}.png" for i in range(11) if i != 5]


@pytest.mark.parametrize("name", ["=1+2.png", "+a.png", "-a.png", "@a.png", "\ta.png", "a;=b.png"])
def test_a_name_is_no_formula(line, monkeypatch, name):
    line.add(name).write_bytes(b"")
    monkeypatch.chdir(line.source)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(name.encode() + b"\n")))
    with pytest.raises(UnreadableError):
        line(source=Path("-"))
    assert line.rows()[name]["file"] == name  # as it is
    cells = [line.table()[0]["file"], line.table()[0]["error"]]
    for cell in cells:
        assert not re.search("(^|[;\t])[=+@\t-]", cell) and name[-5:] in cell


def test_regions_are_of_the_photos_pixels_and_only_so_many_are_told(line):
    dots = np.zeros((44, 40, 3), np.uint8)
    dots[::4, ::4] = 255
    line.add("noise.png")
    Image.fromarray(dots).save(line.source / "noise.png")
    spot = np.full((32, 64, 3), 20, np.uint8)
    spot[8:16, 40:56] = 255
    line.add("spot.png")
    Image.fromarray(spot).save(line.source / "spot.png")
    line(tile=True, save=("mask",))
    rows = line.rows()
    assert rows["noise.png"]["num_regions"] == 110 and len(rows["noise.png"]["regions"]) == 100
    (region,) = rows["spot.png"]["regions"]
    assert region["box"] == [40, 8, 16, 8] and region["area"] == 128
    np.testing.assert_array_equal(pixels(line.output / rows["spot.png"]["mask"]) > 0,
                                  spot[..., 0] > 20)  # fmt: skip


def test_a_threshold_of_ones_own(line, capsys):
    line.add("a.png", 100)
    line.add("b.png", 200)
    line(threshold=0.6)
    assert [r["is_anomalous"] for r in line.rows().values()] == [False, True]
    assert {r["threshold"] for r in line.rows().values()} == {0.6}
    line.config.data.root = "nowhere"
    line.config.evaluation.smoothing = 1  # what is stored does not fit, and no photos are there
    line.output = line.output / "other"
    line(threshold=0.2)
    with pytest.raises(ConfigError, match="--save=mask needs the pixel threshold"):
        line(threshold=0.2, save=("mask",))
    assert all(r["is_anomalous"] for r in line.rows().values())
    assert "are gone from nowhere" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--threshold=nan: must be a finite number"):
        line(threshold=float("nan"))


def test_photos_in_memory_do_not_grow_with_cores(line, monkeypatch):
    """16 × 16 px are 768 bytes of pixels: with a bound of 1 MiB all fit, of 0 one at a time."""
    for i in range(40):
        line.add(f"{i:02d}.png", i + 1, (16, 16))
    line(source=line.source / "00.png", save=())
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    alive, most, read = [0], [0], batching.images.read_image

    def counting(*arguments):
        alive[0] += 1
        most[0] = max(most[0], alive[0] - len(line.detector.seen))
        return read(*arguments)

    monkeypatch.setattr("diffad_jax.inference.batching.images.read_image", counting)
    monkeypatch.setattr("diffad_jax.inference.batching.budget", lambda config: 3000)
    line(save=("overlay",))
    assert len(line.rows()) == 40
    assert most[0] <= 4 + 3  # a batch, which 3000 bytes cut to four photos, and what waits
    assert max(line.detector.batches) == 4


def test_without_held_out_photos_there_is_no_verdict_and_no_mask(line, capsys):
    line.config.data.validation_share = 0.0
    line.add("a.png")
    line()
    assert line.rows()["a.png"]["is_anomalous"] is None
    assert line.table()[0]["is_anomalous"] == ""
    assert "no verdicts: no normal photo was held out" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--save=mask needs the pixel threshold that held-out"):
        line(save=("mask",))


def test_tiles_have_a_threshold_of_their_own(line, capsys):
    line.add("one.png", 90, (16, 16))
    line.add("large.png", 10, (50, 40))
    bright = line.add("spot.png", 10, (50, 40))
    spotted = pixels(bright).copy()
    spotted[30:40, 20:30] = 200
    Image.fromarray(spotted).save(bright)
    line(tile=True, save=("mask", "reconstruction"))
    rows = line.rows()
    assert {n: r["windows"] for n, r in rows.items()} == {
        "one.png": 1, "large.png": 12, "spot.png": 12}  # fmt: skip
    assert rows["one.png"]["score"] == pytest.approx(90 / 255, abs=1e-6)
    assert rows["spot.png"]["score"] == pytest.approx(200 / 255, abs=1e-6)
    chosen = json.loads((line.workdir / "tiles" / "threshold_tile.json").read_text())
    assert max(chosen["predictions"]["windows"]) == 4 and chosen["settings"]["tile"]
    assert not (line.workdir / "tiles" / "threshold.json").exists()
    mask = pixels(line.output / rows["spot.png"]["mask"])
    assert mask.shape == (50, 40) and mask[35, 25] == 255 and not mask[:25].any()
    assert pixels(line.output / rows["spot.png"]["reconstruction"])[35, 25, 0] == 100
    printed = capsys.readouterr().err
    assert "trained on windows of 16 × 16 pixels" in printed
    assert "2 photos have more windows than any held-out normal photo (4)" in printed


def test_one_window_scores_as_the_whole_photo(line):
    path = line.add("a.png", 30, (16, 16))
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(path)
    found = [next(batching.score_photos(line.detector, [str(path)], t))[0] for t in (False, True)]
    np.testing.assert_array_equal(found[0].anomaly_map, found[1].anomaly_map)
    np.testing.assert_array_equal(found[0].reconstruction, found[1].reconstruction)


def test_smoothing_a_padded_map_changes_nothing(line):
    rng = np.random.default_rng(0)
    for size in ((16, 16), (5, 37), (1, 1)):
        anomaly_map = rng.random(size, np.float32)
        padded = np.pad(np.float64(anomaly_map), 1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
        power = line.detector.config.evaluation.smoothing_power
        found = batching.score_map(anomaly_map, line.detector.config)
        np.testing.assert_allclose(found, (windows**power).mean((2, 3)) ** (1 / power), atol=1e-6)


def test_a_held_out_photo_that_is_damaged_stops_unless_skipped(line, tmp_path):
    root = tmp_path / "data"
    for i in range(20):
        path = root / "tiles" / "train" / "good" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no photo")
    line.config.data.root = str(root)
    with pytest.raises(ValueError, match="is no image that can be decoded"):
        load_or_choose(line.config, line.workdir, "tiles", line.detector)
    line.config.data.on_bad_image = "skip"
    with pytest.raises(ValueError, match="none of 12 normal photos could be read"):
        load_or_choose(line.config, line.workdir, "tiles", line.detector)


def test_an_unknown_picture_is_named(line):
    line.add("a.png")
    with pytest.raises(ConfigError, match="--save=maps: choose some of overlay, heat_map"):
        line(save=("overlay", "maps"))


def test_an_output_that_cannot_be_written_is_an_error_for_people(line):
    line.add("a.png")
    line.output.write_text("a file")
    with pytest.raises(DataError, match="cannot write the results: .*out"):
        line()


def test_what_a_method_cannot_give_is_refused(line):
    line.config.method = "patchcore"
    line.add("a.png")
    with pytest.raises(ConfigError, match="--tile does not go with patchcore, whose score is no"):
        line(tile=True)
    line.config.method = "padim"
    with pytest.raises(ConfigError, match="--tile does not go with padim, which knows places"):
        line(tile=True)
    with pytest.raises(ConfigError, match="--save=reconstruction: padim makes none"):
        line(save=["reconstruction"])
    line.config.method = "diffad"
    line.config.normal_level.floor = 0.1
    with pytest.raises(ConfigError, match="--tile does not go with diffad, .*floor=0 leaves that"):
        line(tile=True)


def test_tables_are_on_the_disk_at_the_end_and_pictures_before_their_rows(line, disk_calls):
    line.add("a.png", 10)
    line()
    synced = [call[1] for call in disk_calls if call[0] == "fsync"]
    tables = [path for path in synced if path.endswith((".jsonl", ".csv"))]
    assert tables[-2:] == [f"{line.output}/predictions.jsonl", f"{line.output}/predictions.csv"]
    renamed = [call[2] for call in disk_calls if call[0] == "rename"]
    assert (
        f"{line.output}/a.png.overlay.png" in renamed and f"{line.output}/settings.json" in renamed
    )
    for i, (_, temporary, *_) in enumerate(disk_calls):
        if disk_calls[i][0] == "rename":
            assert ("fsync", temporary) in disk_calls[:i]


def test_photos_too_large_to_be_held_are_read_in_strips(line, capsys):
    rng = np.random.default_rng(0)
    normal = rng.integers(0, 100, (70, 50, 3), np.uint8)
    defect = normal.copy()
    defect[33:44, 20:31] = 255  # across strips and windows
    for i, photo in enumerate((normal, defect)):
        path = line.add(f"{i}.png")
        Image.fromarray(photo).save(path)
        Image.fromarray(photo).save(path.with_suffix(".jpg"))
    line(tile=True, save=("mask",))
    whole, line.output = line.rows(), line.output.with_name("strips")
    with line.config.unlocked():
        del line.config.data.photo_mib  # the type of 512 is int
        line.config.data.photo_mib = 0.003
    with pytest.raises(UnreadableError, match="and a JPEG, which has no strips: save it as TIFF"):
        line(tile=True, save=PICTURES)
    assert "2 photos were too large to be held, and were read in strips" in capsys.readouterr().err
    found = line.rows()
    for name in ("0.png", "1.png"):
        for key in ("is_anomalous", "width", "height", "windows"):
            assert found[name][key] == whole[name][key], (name, key)
        assert found[name]["score"] == pytest.approx(whole[name]["score"], rel=1e-5)
    k = found["1.png"]["pictures_reduced"]
    assert k > 1 and whole["1.png"]["pictures_reduced"] == 1 and found["1.png"]["is_anomalous"]
    shown = {kind: pixels(line.output / found["1.png"][kind]) for kind in PICTURES}
    reduced = -(-70 // k), -(-50 // k)
    assert {shown[kind].shape[:2] for kind in ("mask", "reconstruction")} == {reduced}
    mask = pixels(line.output.with_name("out") / whole["1.png"]["mask"])
    padded = np.pad(mask, ((0, -70 % k), (0, -50 % k)))
    blocks = padded.reshape(-(-70 // k), k, -(-50 // k), k).max((1, 3))
    np.testing.assert_array_equal(shown["mask"], blocks)
