"""Checks who may ask for what, around every request and answer."""

import hmac
import ipaddress
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diffad_jax.serve.counts import Counts

_OPEN = ("/", "/healthz", "/openapi.json")  # they say nothing of photos
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Refuses strangers, and adds the headers that browsers obey.

    Without a token only this machine may ask, by its own names. Otherwise a foreign page in a
    browser of this machine could write corrections.
    """

    def __init__(self, app: ASGIApp, token: str, counts: Counts, paths: frozenset[str]):
        """``paths`` are counted apart in metrics; with an empty ``token`` none is needed."""
        self._app, self._token, self._counts, self._paths = app, token, counts, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket; the server has none
            await send({"type": "websocket.close", "code": 1000})
            return
        started, path = time.monotonic(), scope["path"]
        path = path if path in self._paths else "other"

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                self._counts.requests.labels(path, str(message["status"])).inc()
            await send(message)

        app = self._refusal(scope) or self._app
        await app(scope, receive, sending)
        self._counts.latency.labels(path).observe(time.monotonic() - started)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._token and not _is_this_machine(host):
            return _refused(421, "ask for 127.0.0.1 or localhost, or start with --host and a token")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return _refused(403, "pages from elsewhere may not ask")
        if self._token and scope["path"] not in _OPEN:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                refused = _refused(401, "send the header Authorization: Bearer TOKEN")
                refused.headers["WWW-Authenticate"] = "Bearer"
                return refused
        return None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_this_machine(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _refused(status: int, said: str) -> JSONResponse:
    return JSONResponse({"error": said}, status)
