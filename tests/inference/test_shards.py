"""Prediction in shards: each photo in one of them, and one table of all."""

import contextlib
import json
import os
import re
import signal

import pytest

from diffad_jax.commands.predict import UnreadableError, merge
from diffad_jax.data.layouts import DataError
from diffad_jax.inference import shards, sources
from diffad_jax.inference.shards import IncompleteError, Shard
from diffad_jax.runtime.signals import Stopped

PICTURES = ("overlay", "thumbnail")


@pytest.fixture
def lot(line):
    for i in range(20):
        line.add(f"{i % 3}/{i}.png", 5 * i)
    (line.source / "broken.png").write_bytes(b"")
    return line


def score(line, count, *indices):
    for index in indices:
        with contextlib.suppress(UnreadableError):  # of the shard that has the broken one
            line(shard=Shard(index, count))


def facts(row):
    return {key: value for key, value in row.items() if key not in PICTURES}


def test_the_joined_table_is_that_of_one_process(lot, tmp_path):
    score(lot, 3, 0, 1, 2)
    merge(lot.config, lot.output)
    joined = lot.rows()
    assert len(lot.table()) == len(joined) == 21
    scored = [row for row in joined.values() if row["error"] is None]
    assert all((lot.output / row[k]).is_file() for row in scored for k in PICTURES)
    assert len({row["overlay"].split("/")[0] for row in scored}) == 3
    page = (lot.output / "predictions.html").read_text()
    assert "1 unreadable" in page and "shard-0-of-3/thumbnails" in page
    settings = json.loads((lot.output / "settings.json").read_text())
    assert {row["detector"] for row in scored} <= settings.keys()

    lot.output = tmp_path / "alone"
    with pytest.raises(UnreadableError):
        lot()
    alone = lot.rows()
    assert {name: facts(row) for name, row in joined.items()} == {
        name: facts(row) for name, row in alone.items()
    }


def test_a_photo_stays_in_its_shard_when_others_come(lot):
    def split():
        of_shards = [Shard(i, 4).holds for i in range(4)]
        listings = [sources.list_photos(lot.source, lot.output, holds) for holds in of_shards]
        return [{photo.name for photo in listing.photos} for listing in listings]

    before = split()
    assert sum(map(len, before)) == len(set.union(*before)) == 21
    lot.add("0/new.png")
    assert sum(old <= new for old, new in zip(before, split(), strict=True)) == 4


def test_a_shard_asks_the_system_about_its_own_photos_alone(lot, monkeypatch):
    asked, stamp = [], sources._stamp
    monkeypatch.setattr(sources, "_stamp", lambda path: asked.append(path) or stamp(path))
    photos = sources.list_photos(lot.source, lot.output, Shard(0, 4).holds).photos
    assert 0 < len(photos) < 15 and sorted(asked) == [photo.path for photo in photos]


def test_missing_shards_are_named_and_can_follow(lot):
    with pytest.raises(DataError, match="no shard in"):
        merge(lot.config, lot.output)
    score(lot, 4, 0, 2)
    with pytest.raises(IncompleteError, match=r"2 of 4 shards .*: 1/4, 3/4; run"):
        merge(lot.config, lot.output)
    assert IncompleteError.exit_status == 3
    some = len(lot.rows())
    score(lot, 4, 1, 3)
    merge(lot.config, lot.output)
    assert some < len(lot.rows()) == 21


def test_a_stopped_shard_goes_on_and_is_not_called_finished(lot):
    lot.config.evaluation.batch_size = 2

    def stop():
        lot.detector.after_batch = lambda: None  # a second signal would end the program
        os.kill(os.getpid(), signal.SIGTERM)

    lot.detector.after_batch = stop
    with pytest.raises(Stopped):
        lot(shard=Shard(0, 1))
    with pytest.raises(IncompleteError, match="1 of 1 shards .*: 0/1"):
        merge(lot.config, lot.output)
    assert 0 < len(lot.rows()) < 20
    score(lot, 1, 0)
    merge(lot.config, lot.output)
    assert len(lot.rows()) == 21


def test_a_shard_without_photos_is_finished(line):
    line.add("one.png")
    score(line, 50, *range(50))
    merge(line.config, line.output)
    assert list(line.rows()) == ["one.png"]


def test_other_results_stay(lot):
    with pytest.raises(UnreadableError):
        lot()
    score(lot, 2, 0, 1)
    with pytest.raises(DataError, match="holds predictions that are of no shard"):
        merge(lot.config, lot.output)
    assert not any("shard-" in str(row.get("overlay")) for row in lot.rows().values())
    merge(lot.config, lot.output, overwrite=True)
    assert any("shard-" in str(row.get("overlay")) for row in lot.rows().values())


def test_shards_of_two_counts_are_named(lot):
    score(lot, 2, 0)
    score(lot, 3, 1)
    with pytest.raises(DataError, match="shards of 2 and of 3"):
        merge(lot.config, lot.output)


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "1/0", "a/b", "1/2/3", "1 / 2"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match=re.escape("must be I/N")):
        shards.parse(text)
    assert shards.parse("0/1") == (0, 1)
