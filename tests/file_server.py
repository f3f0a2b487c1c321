"""A stand-in for the servers that weights are fetched from, in a thread."""

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from diffad_jax.runtime.download import Remote

_CHUNK = 2**16


class FileServer:
    """Serves one file, and can be as bad at it as servers are.

    Attributes:
      content: of the file.
      remote: what is known of the file.
      ranges: whether it sends a part where it is asked for one.
      cuts: after how many bytes each of the next connections ends.
      status: of its answers where it is not 0.
      seconds: for which it waits after each 64 KiB.
      asked: the range of each request so far, "" for all of the file.
    """

    def __init__(self, content: bytes, address: str):
        self.content = content
        self.remote = Remote(address, len(content), hashlib.sha256(content).hexdigest())
        self.ranges, self.status, self.seconds = True, 0, 0.0
        self.cuts: list[int] = []
        self.asked: list[str] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range", "")
        self.asked.append(wanted)
        if self.status:
            request.send_error(self.status)
            return
        first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0
        body = self.content[first:]
        request.send_response(206 if first else 200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        body = body[: self.cuts.pop(0)] if self.cuts else body
        for start in range(0, len(body), _CHUNK):
            request.wfile.write(body[start : start + _CHUNK])
            time.sleep(self.seconds)
        request.close_connection = True


@contextlib.contextmanager
def serving(content: bytes, name: str = "weights.pth") -> Iterator[FileServer]:
    """While entered, it serves ``content`` as a file of this name."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with contextlib.suppress(ConnectionError):  # the other side may be killed
                found.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = FileServer(content, f"http://127.0.0.1:{server.server_port}/{name}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
