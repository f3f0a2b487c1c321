"""Machines that lack something: it works without, or says in one sentence what is missing."""

import os
import threading

import jax
import pytest

from diffad_jax.runtime import compilation
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
