"""An S3 server of this machine (moto's), which can be killed."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("moto")
s3fs = pytest.importorskip("s3fs")


class Server:
    """Of S3; what it holds is in memory, so a killed one is filled again."""

    def __init__(self, photos):
        self._photos = Path(photos)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.environment = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
        }
        self.start()

    def start(self):
        code = f"from moto.server import main; main(['-H127.0.0.1', '-p{self._port}'])"
        self.process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self._port)):
                    break
            time.sleep(0.1)
        self.storage = s3fs.S3FileSystem(
            key="test",
            secret="test",
            endpoint_url=self.environment["FSSPEC_S3_ENDPOINT_URL"],
            skip_instance_cache=True,
        )
        self.storage.mkdir("photos")
        self.storage.mkdir("runs")
        self.storage.put(f"{self._photos}/", "photos/", recursive=True)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
