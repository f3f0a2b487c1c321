"""Machines that lack something: it works without, or says in one sentence what is missing."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import pytest
from conftest import tiny_flags_for

from diffad_jax.runtime import compilation, machine
from diffad_jax.runtime.files import write_whole
from diffad_jax.runtime.signals import StopSignal
from diffad_jax.training.fingerprint import describe_photos


@pytest.fixture
def no_cache(monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield monkeypatch
    jax.config.update("jax_compilation_cache_dir", before)


def test_an_unknown_user_without_a_home(no_cache, caplog):
    no_cache.delenv("XDG_CACHE_HOME", raising=False)
    no_cache.setattr(os.path, "expanduser", lambda path: path)  # as of a user that nobody knows
    compilation.keep_compiled()
    assert jax.config.jax_compilation_cache_dir is None
    assert "compiled programs are not kept" in caplog.text and "no home folder" in caplog.text


def test_a_cache_folder_that_cannot_be_made(no_cache, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    no_cache.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compilation.keep_compiled()
    assert jax.config.jax_compilation_cache_dir is None
    assert "compiled programs are not kept" in caplog.text


def test_a_cache_folder(no_cache, tmp_path):
    no_cache.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation.keep_compiled()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "diffad_jax" / "xla")


def test_work_in_a_thread_hears_of_no_signal():
    errors = []

    def work():
        try:
            with StopSignal() as stop:
                assert not stop.requested(1)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []


def test_names_that_are_no_utf_8(tmp_path):
    name = os.fsdecode(b"\xff.png")
    (tmp_path / name).write_bytes(b"x")
    assert describe_photos([str(tmp_path / name)]).startswith("1 files")
    write_whole(tmp_path / "table.md", f"| {name} |")
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == "| ?.png |"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a"), "a: Permission denied. Change"),
        (OSError(errno.EROFS, "Read-only file system"), "runs/a: Read-only file system. Change"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: the disk is full"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), "aaa: File name too long"),
        (ValueError("PERMISSION_DENIED: Error"), "runs/a: a file there cannot be read"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), None),
        (ValueError("a bug"), None),
        (AssertionError(), None),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_is_one_sentence(error, said):
    found = machine.describe(error, "runs/a")
    assert found is None if said is None else said in found


def test_devices_that_are_not_there(monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda': no GPU\nmore")

    monkeypatch.setattr(jax, "devices", devices)
    found = machine.describe(AssertionError(), "runs/a")
    assert "asks for devices that JAX does not find here: Unable to initialize" in found
    assert "more" not in found.replace("what is there", "")
    assert machine.describe(OSError(errno.ENOENT, "x"), "runs/a") is None


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_the_program_on_a_machine_without_the_devices(platform, photos, tmp_path):
    command = [sys.executable, "-m", "diffad_jax.main", *tiny_flags_for(photos)]
    command += [f"--workdir={tmp_path}"]
    environment = os.environ | {"JAX_PLATFORMS": platform}
    root = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert f"error: JAX_PLATFORMS={platform} asks for devices" in ran.stderr.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_the_program_where_it_may_not_write(photos, tmp_path):
    tmp_path.chmod(0o500)
    command = [sys.executable, "-m", "diffad_jax.main", *tiny_flags_for(photos)]
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [*command, f"--workdir={tmp_path}/runs"], cwd=root, capture_output=True, text=True
    )
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert f"error: {tmp_path}/runs: Permission denied." in ran.stderr.splitlines()[-1]
