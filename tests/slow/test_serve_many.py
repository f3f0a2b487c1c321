"""5,000 connections at once, junk and cut bodies, and 10,000 requests in a row.

python -m pytest -s tests/slow/test_serve_many.py
"""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from test_serve_kill import _SERVER, ROOT

sys.path[:0] = [str(ROOT / "tests/serve")]
from serving import png  # noqa: E402

GOOD = png(0.5)
FORM = "Content-Type: multipart/form-data; boundary=x\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The port and the process."""
    command = [sys.executable, "-c", _SERVER, str(tmp_path_factory.mktemp("served"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        yield int(process.stdout.readline().rstrip("/\n").rpartition(":")[2]), process
        process.kill()


async def ask(port: int, body: bytes, missing: int = 0, head: str = "") -> str:
    """The status; with ``missing`` bytes of the body the connection is cut instead."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{head}"
        f"Content-Length: {len(body) + missing}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    answer = b"HTTP/1.1 cut" if missing else await reader.read()
    writer.close()
    return answer[9:12].decode()


def ask_at_once(port: int, number: int, request: Callable[[int], tuple]) -> Counter:
    async def gather() -> list[str]:
        return await asyncio.gather(*(ask(port, *request(i)) for i in range(number)))

    return Counter(asyncio.run(gather()))


def memory_mib(process: subprocess.Popen) -> float:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) / 256


def test_of_5000_at_once_each_has_an_answer(server):
    found = ask_at_once(server[0], 5000, lambda i: (GOOD,))
    print(found)
    assert found.keys() <= {"200", "503"} and found["200"] >= 256


def test_junk_and_cut_connections_do_no_harm(server):
    rng, found = random.Random(0), Counter()

    def junk(i: int) -> tuple:
        noise = rng.randbytes(rng.randrange(1, 3000))
        part = b"--x\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\n" + noise
        cut = GOOD[: rng.randrange(1, len(GOOD))]
        return ((noise,), (cut,), (GOOD, rng.randrange(1, 100)), (part, 0, FORM))[i % 4]

    for _ in range(20):
        found += ask_at_once(server[0], 200, junk)
    print(found)
    assert found.keys() <= {"200", "400", "422", "cut"}
    assert ask_at_once(server[0], 1, lambda i: (GOOD,)) == {"200": 1}


def test_memory_stays_flat_over_10000_requests(server):
    port, process = server
    ask_at_once(port, 100, lambda i: (GOOD,))
    before = memory_mib(process)
    for _ in range(100):
        assert ask_at_once(port, 100, lambda i: (GOOD,)) == {"200": 100}
    print(before, memory_mib(process))
    assert memory_mib(process) < before + 10
