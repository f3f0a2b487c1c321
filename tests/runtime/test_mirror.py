"""A work directory and an output in a bucket; the storage is one in memory."""

import time

import jax
import pytest
from absl import flags

from diffad_jax.commands import command_line
from diffad_jax.commands.train import train_and_evaluate
from diffad_jax.errors import ConfigError
from diffad_jax.inference.detector import Detector
from diffad_jax.runtime import mirror, storage
from tests.bucket import Bucket

PLACE = "gs://bucket/runs/mine"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(storage, "_PAUSES", (0, 0, 0))
    yield
    flags.FLAGS["workdir"].value = flags.FLAGS["output"].value = None


def held(bucket) -> dict[str, bytes]:
    return {name.split("mine")[1]: bucket.cat(name) for name in bucket.find(PLACE)}


def test_what_changes_is_copied_back(bucket):
    bucket.pipe(f"{PLACE}/a/old.txt", b"old")
    bucket.pipe(f"{PLACE}/gone.txt", b"gone")
    mirrors = mirror.Mirrors()
    local = mirrors.local_copy(PLACE + "/")
    assert local.name == "mine" and (local / "a/old.txt").read_bytes() == b"old"
    with mirrors.kept(every=0.01):
        (local / "gone.txt").unlink()
        (local / "a/old.txt").write_bytes(b"newer")
        (local / "b").mkdir()
        (local / "b/new.txt").write_bytes(b"new")
        for passing in (".lock", ".a.txt.vm-1-01234567.tmp", "2.orbax-checkpoint-tmp"):
            (local / passing).write_bytes(b"x")
        until = time.monotonic() + 10
        while held(bucket) != {"/a/old.txt": b"newer", "/b/new.txt": b"new"}:
            assert time.monotonic() < until
            time.sleep(0.01)
        (local / "b/new.txt").write_bytes(b"last")
    assert held(bucket)["/b/new.txt"] == b"last"
    assert not local.parent.exists()


def test_an_error_of_the_work_stays_and_what_it_did_is_copied(bucket):
    mirrors = mirror.Mirrors()
    local = mirrors.local_copy(PLACE)
    with pytest.raises(ZeroDivisionError), mirrors.kept():
        local.mkdir()
        (local / "done.txt").write_bytes(b"half")
        raise ZeroDivisionError
    assert held(bucket) == {"/done.txt": b"half"}


def test_a_file_is_an_output_too(bucket):
    bucket.pipe(PLACE, b"earlier")
    mirrors = mirror.Mirrors()
    local = mirrors.local_copy(PLACE)
    assert local.read_bytes() == b"earlier"
    with mirrors.kept():
        local.write_bytes(b"examples")
    assert held(bucket) == {"": b"examples"}


def test_a_storage_that_refuses_costs_no_work(bucket, monkeypatch, capsys):
    mirrors = mirror.Mirrors()
    local = mirrors.local_copy(PLACE)

    def refuse(*_):
        raise ConnectionError("refused")

    monkeypatch.setattr(Bucket, "put_file", refuse)
    said = rf"\(refused\): copy {local} there"
    with pytest.raises(mirror.MirrorError, match=said), mirrors.kept(every=0.01):
        local.mkdir()
        (local / "done.txt").write_bytes(b"all")
        time.sleep(0.1)
    assert (local / "done.txt").read_bytes() == b"all"
    assert "is not up to date, and is tried again: refused" in capsys.readouterr().err
    monkeypatch.setattr(Bucket, "find", refuse)
    with pytest.raises(mirror.MirrorError, match=f"{PLACE}2 cannot be fetched: refused"):
        mirrors.local_copy(PLACE + "2")


def test_what_cannot_work_on_a_copy_says_so(bucket, monkeypatch):
    mirrors = mirror.Mirrors()
    with pytest.raises(ConfigError, match="--mode=serve keeps corrections as they come"):
        command_line.parse(["diffad", f"--workdir={PLACE}", "--mode=serve"], mirrors)
    local = mirrors.local_copy(PLACE)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(mirror.MirrorError, match="mount the bucket"), mirrors.kept():
        raise AssertionError
    assert not local.parent.exists()


def test_a_training_goes_on_from_the_bucket(bucket, tiny_config, tmp_path):
    """Also where its last checkpoint is there in part: the same weights come of it."""

    def run():
        mirrors = mirror.Mirrors()
        local = mirrors.local_copy(PLACE)
        with mirrors.kept():
            train_and_evaluate(tiny_config, local, None)
            return Detector.from_workdir(tiny_config, local, "tiles").weights_hash

    whole = run()
    last = [n for n in bucket.find(PLACE) if "/segmenter/4/" in n]
    assert len(last) > 5
    for name in last[::2]:
        bucket.rm(name)
    assert run() == whole
    assert any("/segmenter/4/" in name for name in bucket.find(PLACE))
