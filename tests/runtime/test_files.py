"""What has its name is whole, whatever ended the process or the power."""

import errno
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from diffad_jax.runtime import files, lock, regular

ROOT = Path(__file__).parents[2]


def test_content_is_on_the_disk_before_the_name_and_then_the_name(disk_calls, tmp_path):
    files.write_whole(tmp_path / "a.json", "{}\n")
    (_, temporary), *rest = disk_calls
    assert rest == [("rename", temporary, f"{tmp_path}/a.json"), ("fsync", str(tmp_path))]
    assert os.path.dirname(temporary) == str(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_all_of_a_folder_is_on_the_disk_before_its_name(disk_calls, tmp_path):
    with files.whole(tmp_path / "a") as temporary:
        (temporary / "b").mkdir(parents=True)
        (temporary / "b" / "c").write_text("c")
        assert not disk_calls
    synced = {call[1] for call in disk_calls[:-2]}
    assert synced == {str(temporary), f"{temporary}/b", f"{temporary}/b/c"}
    renamed = ("rename", str(temporary), f"{tmp_path}/a")
    assert disk_calls[-2:] == [renamed, ("fsync", str(tmp_path))]
    assert (tmp_path / "a" / "b" / "c").read_text() == "c"


def test_the_names_of_new_folders_are_on_the_disk(disk_calls, tmp_path):
    files.make_folder(tmp_path / "a" / "b")
    assert disk_calls == [("fsync", str(tmp_path)), ("fsync", f"{tmp_path}/a")]
    files.make_folder(tmp_path / "a" / "b")
    assert len(disk_calls) == 2


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fails):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    files.write_whole(tmp_path / "a.json", "old")
    if fails == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), files.whole(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        if fails == "write":
            full()
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_a_folder_replaces_none(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kept").touch()
    with pytest.raises(OSError), files.whole(tmp_path / "a") as temporary:
        (temporary / "b").mkdir(parents=True)
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == [
        "a",
        "a/kept",
    ]


def test_what_is_no_text_becomes_a_question_mark(tmp_path):
    """Such as a defect's folder in table.md."""
    files.write_whole(tmp_path / "table.md", os.fsdecode(b"Kratzer \xfc"))
    assert (tmp_path / "table.md").read_text() == "Kratzer ?"


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with files.whole(tmp_path / "a") as one, files.whole(tmp_path / "a") as two:
        one.write_text("one")
        two.write_text("two")
    assert (tmp_path / "a").read_text() == "one"


def test_the_longest_name_that_a_folder_takes_is_taken(tmp_path):
    files.write_whole(tmp_path / ("ä" * 127), "long")
    assert (tmp_path / ("ä" * 127)).read_text() == "long"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_folders_still_syncs_files(tmp_path, monkeypatch, number):
    def fsync(file):
        raise OSError(number, os.strerror(number))

    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "fsync", fsync)
    files.sync(tmp_path)
    with pytest.raises(OSError, match=os.strerror(number)):
        files.sync(tmp_path / "a")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '{"a": 1', "\udcff", "[" * 10**5])
def test_a_damaged_file_counts_as_absent(tmp_path, caplog, content):
    path = tmp_path / "a.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert files.read_json(path) == {} and f"{path} is damaged" in caplog.text
    path.write_text(json.dumps({"a": 1}))
    assert files.read_json(path) == {"a": 1}
    assert files.read_json(tmp_path / "absent") == {}


def test_a_small_file_that_would_take_much_memory_is_refused():
    with pytest.raises(ValueError, match="more than 262144 values"):
        regular.parsed_json(b"[" + b"[]," * 2**18 + b"[]]")
    for wide in ("ä".encode(), b"\\u00e4"):
        with pytest.raises(ValueError, match="over 16 MiB with characters beyond ASCII"):
            regular.parsed_json(b'"' + b" " * 2**24 + wide + b'"')


def test_a_small_file_takes_little_memory_whatever_it_may_hold(tmp_path):
    (tmp_path / "a").write_bytes(b"small")
    tracemalloc.start()
    try:
        assert regular.read_regular(tmp_path / "a", 2**34) == b"small"
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_files_that_give_no_size_are_read_as_far_as_they_may_be():
    assert regular.read_regular("/proc/self/status", 2**20).startswith(b"Name:")
    with pytest.raises(OSError, match="larger than"):
        regular.read_regular("/proc/self/status", 9)


KILLED = (
    "import pathlib, signal, os, sys\n"
    "from diffad_jax.runtime import files\n"
    "folder = pathlib.Path(sys.argv[1])\n"
    "with files.whole(folder / 'a.json') as file, files.whole(folder / 'below' / 'b') as made:\n"
    "    file.write_text('half')\n"
    "    made.mkdir()\n"
    "    (made / 'c').touch()\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
)


def test_what_a_killed_process_left_goes_when_the_next_one_locks_the_folder(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT)
    (tmp_path / ".mine.tmp").touch()
    left = {p for p in tmp_path.rglob(".*-*.tmp")}
    assert len(left) == 2
    with files.whole(tmp_path / "a.json") as living, lock.hold(tmp_path):
        living.write_text("whole")
        assert living.exists() and not any(path.exists() for path in left)
    assert (tmp_path / "a.json").read_text() == "whole" and (tmp_path / ".mine.tmp").exists()


def test_of_other_machines_only_what_is_a_day_old_goes(tmp_path):
    old, new = (tmp_path / f".a.json.elsewhere-1-0000000{i}.tmp" for i in range(2))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    files.remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [new.name]
