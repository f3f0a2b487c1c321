"""A server killed at 20 moments during corrections and recalibrations, over HTTP.

python -m pytest tests/slow/test_serve_kill.py
"""

import contextlib
import http.client
import json
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from diffad_jax.data.corrections import Corrections, present

ROOT = Path(__file__).parents[2]
_SERVER = """
import sys
from pathlib import Path
sys.path[:0] = ["tests/serve"]
import pytest, serving
config = serving.bright_config(pytest.MonkeyPatch(), Path(sys.argv[1]) / "photos")
api, _ = serving.make_api(config, Path(sys.argv[1]) / "work")
with serving.listening(api) as address:
    print(address, flush=True)
    sys.stdin.read()
"""


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def work(port, number, acknowledged):
    """Corrects and recalibrates until the server is gone."""
    sys.path[:0] = [str(ROOT / "tests/serve")]
    from serving import png

    while True:
        number += 1
        red = 0.5 + number % 97 / 200
        try:
            status, kept = ask(port, "POST", "/v1/corrections?label=good", png(red, seed=number))
            assert status == 201, kept
            acknowledged["shas"].append(kept["sha256"])
            _, effect = ask(port, "GET", "/v1/recalibration")
            threshold = effect["threshold"]["after"]
            acknowledged["tried"] = threshold
            status, _ = ask(port, "POST", f"/v1/recalibration?threshold={quote(repr(threshold))}")
            assert status == 201
            acknowledged["taken"] = threshold
        except (OSError, http.client.HTTPException, ValueError):
            return


@pytest.mark.parametrize("moment", range(20))
def test_a_killed_server_loses_nothing_that_it_acknowledged(tmp_path, moment):
    command = [sys.executable, "-c", _SERVER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    acknowledged = {"shas": [], "taken": None, "tried": None}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
        client = threading.Thread(target=work, args=(port, 1000 * moment, acknowledged))
        client.start()
        client.join(0.2 + np.random.default_rng(moment).exponential(0.5))
        process.kill()
        client.join()
    directory = tmp_path / "work" / "lamps"
    kept = Corrections(directory)
    found = {c.sha256: c for c in kept.of("good")}
    assert {*acknowledged["shas"]} <= found.keys()
    assert all(map(kept.photo, found.values()))
    taken = present(directory)
    wanted = (acknowledged["taken"], acknowledged["tried"])
    assert (taken.threshold if taken else None) in wanted
