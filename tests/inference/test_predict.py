"""Prediction with a detector whose answers are known: files in, tables and pictures out."""

import io
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffad_jax.commands.predict import UnreadableError
from diffad_jax.data.layouts import DataError
from diffad_jax.errors import ConfigError
from diffad_jax.inference import batching, sources
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.inference.writer import PICTURES
from diffad_jax.runtime import lock
from diffad_jax.runtime.lock import LockedError


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


def test_called_again_it_scores_what_is_new_changed_or_failed(line, capsys):
    for name in ("kept.png", "changed.png", "repaired.png", "lost_overlay.png"):
        line.add(name)
    (line.source / "repaired.png").write_bytes(b"")
    with pytest.raises(UnreadableError) as caught:
        line()
    assert caught.value.exit_status == 3 and "repaired.png is an empty file" in str(caught.value)
    before = line.rows()
    assert before["repaired.png"]["score"] is None
    assert line.table()[-1]["error"] or line.table()[2]["error"]
    line.add("changed.png", 222)
    line.add("repaired.png", 233)
    line.add("new.png", 244)
    (line.output / before["lost_overlay.png"]["overlay"]).unlink()
    with pytest.raises(DataError, match="of photos that have changed since: changed.png. Choose"):
        line()
    assert line.rows() == before
    line(overwrite=True)
    assert sorted(line.detector.seen) == [100, 222, 233, 244]
    rows = line.rows()
    assert rows["kept.png"] == before["kept.png"] and len(rows) == len(line.table()) == 5
    assert all(row["error"] is None for row in rows.values())
    line()
    assert not line.detector.seen and line.rows() == rows
    assert "5 photos had been scored before" in capsys.readouterr().out


@pytest.mark.parametrize("cut", [1, 30])
def test_a_half_written_line_is_scored_again(line, capsys, cut):
    line.add("a.png", 50)
    line.add("b.png", 60)
    line()
    whole = line.rows()
    path = line.output / "predictions.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    (line.output / "predictions.csv").write_text("file,sco")
    line()
    assert line.detector.seen == [60] and line.rows() == whole
    assert [row["score"] for row in line.table()] == [f"{50 / 255:.6f}", f"{60 / 255:.6f}"]
    assert "a broken line is dropped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda line: setattr(line.detector, "weights_hash", "second"),
            "weights: first there, second",
        ),
        (lambda line: line.config.evaluation.update(smoothing=5), "evaluation.smoothing: 3 there"),
        (
            lambda line: line.config.evaluation.update(smoothing_power=2.0),
            "evaluation.smoothing_power: 6.0 there",
        ),
        (
            lambda line: line.config.evaluation.update(false_alarm_rate=1.0),
            "a.png. Choose another --output",
        ),
    ],
)
def test_rows_of_other_weights_or_settings_are_replaced_only_if_asked(line, change, reason):
    line.add("a.png", 50)
    line()
    before = line.rows()
    change(line)
    with pytest.raises(DataError, match="holds results that would be replaced") as caught:
        line()
    assert reason in str(caught.value) and line.rows() == before
    line.add("b.png", 60)
    line(source=line.source / "b.png")
    rows = line.rows()
    assert rows["a.png"] == before["a.png"] and len(rows) == len(line.table()) == 2
    kinds = {(r["detector"], r["threshold"]) for r in line.table()}
    assert len(kinds) == 2  # each row says what it is of
    line(overwrite=True)
    assert line.detector.seen == [50] and len({r["detector"] for r in line.table()}) == 1
    assert len({r["threshold"] for r in line.table()}) == 1


def test_settings_that_are_lost_lose_no_rows(line):
    line.add("a.png", 50)
    line()
    before = line.rows()
    (line.output / "settings.json").write_text("{")
    line()
    assert line.rows() == before and not line.detector.seen
    assert [*json.loads((line.output / "settings.json").read_text())] == [
        before["a.png"]["detector"]
    ]


def test_results_of_another_input_stay(line, tmp_path):
    for folder, brightness in (("monday", 250), ("tuesday", 40)):
        line.source = tmp_path / folder
        line.add("1.png", brightness)
        line.add("deep/2.png", brightness)
        line()
        line()
        assert not line.detector.seen
    lines = (line.output / "predictions.jsonl").read_text().splitlines()
    rows = {(Path(r["root"]).name, r["name"]): r for r in map(json.loads, lines)}
    assert len(rows) == len(lines) == len(line.table()) == 4
    shown = {key: pixels(line.output / row["overlay"])[:20, :24] for key, row in rows.items()}
    assert rows["monday", "1.png"]["overlay"] == "1.png.overlay.png"
    assert len({row["overlay"] for row in rows.values()}) == 4
    assert shown["monday", "1.png"].mean() > 150 > 80 > shown["tuesday", "1.png"].mean()


def test_more_pictures_of_the_same_photos_join_those_that_are_there(line):
    line.add("a.png", 50)
    line(save=["overlay"])
    line(save=["heat_map"])
    row = line.rows()["a.png"]
    assert (line.output / row["overlay"]).exists() and (line.output / row["heat_map"]).exists()
    assert len(line.table()) == 1 and line.table()[0]["overlay"] and line.table()[0]["heat_map"]


def test_a_table_of_somebody_else_is_not_replaced(line):
    line.add("a.png")
    line.output.mkdir()
    (line.output / "predictions.csv").write_text("mine\n")
    with pytest.raises(DataError, match="is not of this program: choose another --output"):
        line()
    assert (line.output / "predictions.csv").read_text() == "mine\n"
    line(overwrite=True)
    assert len(line.table()) == 1


def test_two_predictions_into_one_output_are_refused(line):
    line.add("a.png")
    with lock.hold(line.output), pytest.raises(LockedError, match="is writing here"):
        line()


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


def test_a_signal_ends_it_after_the_batch_and_the_next_call_goes_on(line, capsys):
    for i in range(12):
        line.add(f"{i:02d}.png", 20 * i)
    line(save=(), source=line.source / "00.png")  # chooses the threshold
    line.detector.after_batch = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        line()
    assert caught.value.code == 75
    assert len(line.rows()) == len(line.table()) == 4
    assert "stopped after 4 of 12 photos" in capsys.readouterr().err
    line.detector.after_batch = lambda: None
    line()
    assert line.detector.seen == [20 * i for i in range(4, 12)]
    assert list(line.rows()) == [f"{i:02d}.png" for i in range(12)]


def test_rows_of_finished_batches_are_there_when_the_program_dies(line):
    for i in range(12):
        line.add(f"{i:02d}.png", 20 * i)
    line(source=line.source / "00.png")

    def die_in_the_third():
        if len(line.detector.batches) == 3:
            raise RuntimeError("killed")

    line.detector.after_batch = die_in_the_third
    with pytest.raises(RuntimeError):
        line()
    # The second batch is predicted, and its pictures were on their way.
    assert len(line.rows()) == len(line.table()) == 1 + 4


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
        height, width = pixels(line.output / row[kind]).shape[:2]
        assert (height, width) == (30, 10) or (kind in ("overlay", "heat_map") and height > 30)


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
