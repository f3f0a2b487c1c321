"""Files are fetched whole or not at all, whatever the network and the servers do."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from file_server import serving

from diffad_jax.runtime import download, lock
from diffad_jax.runtime.download import DownloadError, Remote, fetch

ROOT = Path(__file__).parents[2]
CONTENT = np.random.default_rng(0).bytes(3 * 2**20 + 7)
FETCHER = (
    "import sys\n"
    "from diffad_jax.runtime.download import Remote, fetch\n"
    "fetch(Remote(sys.argv[1], int(sys.argv[2]), sys.argv[3]))\n"
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where files are kept, not made yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    return tmp_path / "diffad_jax" / "weights"


@pytest.fixture
def server():
    with serving(CONTENT) as found:
        yield found


@pytest.fixture
def fetcher(folder, server):
    """Starts another process that fetches the same file."""
    started = []

    def start() -> subprocess.Popen:
        command = [sys.executable, "-c", FETCHER, *map(str, server.remote)]
        started.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def part(folder) -> Path:
    return folder / ".weights.pth.part"


def until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_file_is_fetched_once(folder, server, capsys):
    path = fetch(server.remote)
    assert path == folder / "weights.pth" and path.read_bytes() == CONTENT
    assert not part(folder).exists()
    said = capsys.readouterr().err
    assert f"fetching {server.remote.url}, 3.15 MB, to {path}" in said
    assert fetch(server.remote) == path
    assert server.asked == [""] and capsys.readouterr().err == ""


def test_a_file_that_has_changed_is_fetched_anew(folder, server, capsys):
    path = fetch(server.remote)
    path.write_bytes(b"x" + CONTENT[1:])
    assert fetch(server.remote).read_bytes() == CONTENT
    assert f"{path} is damaged, and fetched anew" in capsys.readouterr().err


def test_a_cut_connection_is_gone_on_with(folder, server):
    server.cuts = [10, 2**20, 5]
    assert fetch(server.remote).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=10-", f"bytes={2**20 + 10}-", f"bytes={2**20 + 15}-"]


def test_a_server_without_ranges_begins_anew(folder, server):
    server.ranges, server.cuts = False, [2**20]
    assert fetch(server.remote).read_bytes() == CONTENT
    assert server.asked == ["", f"bytes={2**20}-"]


def test_connections_that_bring_nothing_end_and_the_rest_is_kept(folder, server):
    server.cuts = [2**20, *[0] * 9]
    with pytest.raises(DownloadError) as error:
        fetch(server.remote)
    said = str(error.value)
    assert "(the connection was cut; 1.05 of 3.15 MB are kept, to go on from): run the same" in said
    assert said.endswith(f"and put it at {folder}/weights.pth") and "\n" not in said
    assert len(server.asked) == 1 + download._TRIES and part(folder).stat().st_size == 2**20
    server.cuts = []
    assert fetch(server.remote).read_bytes() == CONTENT


def test_what_was_no_beginning_of_the_file_is_given_up(folder, server):
    folder.mkdir(parents=True)
    part(folder).write_bytes(b"something else")
    assert fetch(server.remote).read_bytes() == CONTENT
    assert server.asked == ["bytes=14-", ""]


def test_a_whole_part_is_not_fetched_again(folder, server):
    folder.mkdir(parents=True)
    part(folder).write_bytes(CONTENT)
    assert fetch(server.remote).read_bytes() == CONTENT
    assert server.asked == []


def test_another_file_is_refused(folder, server):
    server.content = CONTENT[::-1]
    with pytest.raises(DownloadError, match="its SHA-256 is not the known one"):
        fetch(server.remote)
    assert not part(folder).exists() and not (folder / "weights.pth").exists()
    server.content = b"<html>Sign in to this network</html>"
    with pytest.raises(DownloadError, match="it has 36 bytes instead of 3145735"):
        fetch(server.remote)


@pytest.mark.parametrize("status", [404, 503])
def test_what_the_server_says_is_told(folder, server, status):
    server.status = status
    with pytest.raises(DownloadError, match=f"{server.remote.url} .the server says {status} "):
        fetch(server.remote)


def test_without_a_network_it_says_what_to_do(folder):
    with socket.socket() as free:  # nobody listens there
        free.bind(("127.0.0.1", 0))
        remote = Remote(f"http://127.0.0.1:{free.getsockname()[1]}/a.pth", 9, "")
        with pytest.raises(DownloadError) as error:
            fetch(remote)
    assert str(error.value) == (
        f"cannot fetch {remote.url} (Connection refused): run the same command again, or fetch it "
        f"elsewhere and put it at {folder}/a.pth"
    )


def test_an_unknown_host_is_named(folder):
    with pytest.raises(DownloadError, match=r"cannot fetch http://nowhere.invalid/a.pth \(.*n"):
        fetch(Remote("http://nowhere.invalid/a.pth", 9, ""))


def test_a_user_without_a_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(DownloadError, match="there is no home folder: set XDG_CACHE_HOME"):
        fetch(Remote("http://127.0.0.1/a.pth", 9, ""))


def test_of_two_processes_one_fetches(folder, server, fetcher, capsys):
    server.seconds = 0.02
    other = fetcher()
    until(lambda: server.asked)
    assert fetch(server.remote).read_bytes() == CONTENT
    _, said = other.communicate()
    assert other.returncode == 0 and server.asked == [""], said
    assert f"process {other.pid} on {socket.gethostname()}" in capsys.readouterr().err


def test_a_killed_process_leaves_what_the_next_one_goes_on_from(folder, server, fetcher):
    server.seconds = 0.05
    other = fetcher()
    until(lambda: part(folder).exists() and part(folder).stat().st_size > 2**18)
    other.kill()
    other.wait()
    size, server.seconds = part(folder).stat().st_size, 0.0
    assert 0 < size < len(CONTENT) and not (folder / "weights.pth").exists()
    assert fetch(server.remote).read_bytes() == CONTENT
    assert server.asked == ["", f"bytes={size}-"]


def test_its_name_comes_after_its_content(folder, server, disk_calls):
    path = fetch(server.remote)
    calls = [c for c in disk_calls if c[1] in (str(part(folder)), str(folder))]
    assert calls[-3:] == [
        ("fsync", str(part(folder))),
        ("rename", str(part(folder)), str(path)),
        ("fsync", str(folder)),
    ]


def test_progress_counts_what_was_there(folder, server, monkeypatch):
    shown = {}
    add = lambda self, count: shown.setdefault(id(self), [self]).append(count)  # noqa: E731
    monkeypatch.setattr(download.CountProgress, "update", add)
    server.cuts = [2**20 + 1]
    fetch(server.remote)
    first, second = (counts[1:] for counts in shown.values())
    assert first[0] == 0 and sum(first) == 1
    assert second[0] == 1 and sum(second) == 3 and max(second[1:]) == 1


def test_waiting_holds_as_others_do(tmp_path):
    with lock.wait(tmp_path / "a"):
        assert (tmp_path / "a" / ".lock").read_text().startswith("process ")
        with pytest.raises(lock.LockedError), lock.hold(tmp_path / "a"):
            pass
    with lock.hold(tmp_path / "a"):
        pass
