"""Prediction that is called again, stopped or killed: what was scored stays."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffad_jax.commands.predict import UnreadableError
from diffad_jax.data.layouts import DataError
from diffad_jax.runtime import lock
from diffad_jax.runtime.lock import LockedError


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
    shown = {
        key: np.asarray(Image.open(line.output / row["overlay"]))[:20, :24]
        for key, row in rows.items()
    }
    assert rows["monday", "1.png"]["overlay"] == "1.png.overlay.png"
    assert len({row["overlay"] for row in rows.values()}) == 4
    assert shown["monday", "1.png"].mean() > 150 > 80 > shown["tuesday", "1.png"].mean()


def test_photos_that_were_scored_as_a_part_of_more_are_summed_up(line, capsys):
    line.add("a.png", 50)
    line.add("deep/b.png", 60)
    line()
    capsys.readouterr()
    line(line.source / "deep")
    assert not line.detector.seen
    assert "1 normal" in capsys.readouterr().out


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
