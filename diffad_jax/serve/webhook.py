"""Sends signed notices of anomalous photos to another program, with retries."""

import hashlib
import hmac
import http.client
import json
import queue
import threading
import time
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from diffad_jax.errors import ConfigError
from diffad_jax.runtime import console
from diffad_jax.serve.counts import Counts

SECRET = "DIFFAD_WEBHOOK_SECRET"  # of the environment
_MOST = 1000  # notices that wait
_TIMEOUT = 10  # seconds
_DRAIN = 20.0  # seconds for what waits when the server stops
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds between tries


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class Webhook:
    """A thread that posts notices, one by one in their order.

    The header ``X-Diffad-Signature`` is ``sha256=`` and the HMAC-SHA-256, in hexadecimal, of the
    header ``X-Diffad-Time`` (seconds since 1970), a point, and the body.
    """

    def __init__(self, url: str, secret: str, counts: Counts, pauses: Sequence[float] = _PAUSES):
        """Starts the thread. Raises ConfigError for a URL or a secret that cannot be used."""
        if not _is_address(url):
            raise ConfigError(f"--webhook={url}: must be an http:// or https:// address")
        if len(secret) < 16:
            raise ConfigError(
                f"--webhook signs with {SECRET} of the environment: set it to 16 characters or "
                "more, and tell the receiver"
            )
        self._url, self._secret, self._counts, self._pauses = url, secret, counts, pauses
        self._notices: queue.Queue[bytes | None] = queue.Queue(_MOST)
        self._closing, self._until = threading.Event(), 0.0
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def send(self, notice: dict[str, Any]) -> None:
        """Queues a notice; if a thousand wait already, reports that this one is dropped."""
        try:
            self._notices.put_nowait(json.dumps(notice).encode())
        except queue.Full:
            self._lose(f"{_MOST} notices wait already")

    def close(self) -> None:
        """Tries each waiting notice once more, for 20 seconds at most, then ends."""
        self._until = time.monotonic() + _DRAIN
        self._closing.set()
        self._notices.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (body := self._notices.get()) is not None:
            if self._closing.is_set() and time.monotonic() > self._until:
                self._lose("the server stops")
            else:
                self._deliver(body)

    def _deliver(self, body: bytes) -> None:
        for pause in (*self._pauses, None):
            said = self._post(body)
            if not said:
                self._counts.webhooks.labels("delivered").inc()
                return
            if pause is None or self._closing.is_set():
                break
            self._closing.wait(pause)
        self._lose(said)

    def _post(self, body: bytes) -> str:
        """The reason why a notice did not arrive; empty if it did."""
        moment = str(int(time.time()))
        signed = hmac.new(self._secret.encode(), f"{moment}.".encode() + body, hashlib.sha256)
        headers = {
            "Content-Type": "application/json",
            "X-Diffad-Time": moment,
            "X-Diffad-Signature": f"sha256={signed.hexdigest()}",
        }
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with _OPENER.open(request, timeout=_TIMEOUT):
                return ""
        # An HTTP status is an OSError; an answer that is not HTTP is an HTTPException.
        except (OSError, ValueError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__

    def _lose(self, why: str) -> None:
        self._counts.webhooks.labels("lost").inc()
        console.note(f"a notice to {self._url} is lost: {why}")


def _is_address(url: str) -> bool:
    try:
        parts, _ = urlsplit(url), urlsplit(url).port
    except ValueError:  # a port that is no number
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
