"""The program as it is started and stopped."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import pytest
from serving import png

from diffad_jax.errors import ConfigError
from diffad_jax.serve import server

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import sys
from pathlib import Path
import pytest, serving
from diffad_jax.commands.train import train_category
from diffad_jax.main import main
work = Path(sys.argv[1]) / "work"
config = serving.bright_config(pytest.MonkeyPatch(), work.parent / "photos")
train_category(config, work / "lamps", "lamps", None)
main(["diffad", f"--workdir={work}", "--mode=serve", "--port=0"])
"""


def test_a_stop_answers_every_request_that_was_taken(tmp_path):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'serve'}"}
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    statuses, cut = [], []
    with subprocess.Popen(command, env=environment, **pipes) as process:
        port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])

        def ask():
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                with contextlib.closing(connection):
                    try:
                        connection.connect()
                    except OSError:
                        return
                    try:
                        connection.request("POST", "/v1/predict", png(0.5))
                        statuses.append(connection.getresponse().status)
                    except (OSError, http.client.HTTPException):
                        cut.append(1)  # it was in the line of connections, and not yet taken
                        return

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(statuses) < 20:
            threads[0].join(0.05)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        said = process.stderr.read()
        assert process.wait() == 0, said
    assert set(statuses) == {200} and len(cut) <= 4
    assert "every request that was taken has its answer" in said and "Traceback" not in said


def test_a_port_that_is_taken_is_said():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="--port"),
    ):
        server.run(None, "127.0.0.1", taken.getsockname()[1])


def test_others_need_a_token(monkeypatch):
    monkeypatch.delenv(server.TOKEN, raising=False)
    assert server._token("127.0.0.1") == server._token("localhost") == server._token("::1") == ""
    assert len(server._token("0.0.0.0")) > 32 and server._token("::") != server._token("::")
    monkeypatch.setenv(server.TOKEN, "short")
    with pytest.raises(ConfigError, match="16"):
        server._token("127.0.0.1")


def test_the_page_finds_any_token_in_the_address():
    token = "0123456789abc%#d e"
    address = server._address("::1", 80, token)
    assert address.startswith("http://[::1]:80/#token=")
    assert urllib.parse.unquote(urllib.parse.urlsplit(address).fragment) == f"token={token}"
