"""A folder has one writer; one that is gone, however it went, is none."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from diffad_jax.runtime import lock

ROOT = Path(__file__).parents[2]
HOLDER = (
    "import pathlib, sys\n"
    "from diffad_jax.runtime import lock\n"
    "with lock.hold(pathlib.Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def other(tmp_path):
    """Another process, which holds ``tmp_path``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_who_holds_it(other, tmp_path):
    with pytest.raises(lock.LockedError) as refused, lock.hold(tmp_path):
        pass
    message = str(refused.value)
    assert f"{tmp_path}: process {other.pid} on {socket.gethostname()}, since 20" in message
    assert "is writing here. Wait for its end or stop it" in message


def test_one_that_waits_enters_when_the_other_is_gone(other, tmp_path, capfd):
    threading.Timer(0.3, other.kill).start()
    with lock.hold(tmp_path, waits=True):
        assert other.poll() is not None
        assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()
    assert f"process {other.pid} on" in (said := capfd.readouterr().err)
    assert said.count("waiting for its end") == 1


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_process_that_is_gone_holds_nothing(other, tmp_path, end):
    if end:
        other.send_signal(end)
    other.communicate()
    with lock.hold(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()
    assert (tmp_path / ".lock").read_text() == ""


def test_folders_are_made_and_do_not_lock_each_other(other, tmp_path):
    with lock.hold(tmp_path / "a" / "b"), lock.hold(tmp_path / "a"):
        assert (tmp_path / "a" / "b" / ".lock").read_text()
        assert (tmp_path / "a" / ".lock").read_text()


def test_it_is_let_go_where_the_work_fails(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"), lock.hold(tmp_path):
            raise RuntimeError("broken")


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, caplog):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock.hold(tmp_path):
        assert f"{tmp_path}: this file system has no locks (No locks available)" in caplog.text


@pytest.mark.parametrize("index", [0, 1])
def test_process_0_holds_it_for_its_whole_job(tmp_path, monkeypatch, index):
    """The others enter where process 0 does, and are refused where it is."""
    told = []
    monkeypatch.setattr(jax, "process_index", lambda: index)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda x: told.append(x) or 1)
    with lock.hold(tmp_path):
        assert (tmp_path / ".lock").exists() == (index == 0)
    assert told == [1] or index == 1
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda x: np.int32(0))
    with pytest.raises(lock.LockedError, match="another process is writing here"):
        lock.hold(tmp_path).__enter__()
