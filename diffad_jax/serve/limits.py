"""How much the server takes from clients at once; anything beyond is refused with an error."""

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

RETRY_AFTER = {"Retry-After": "1"}  # seconds
_MOST_NAME = 200  # characters of what a client calls a photo


@dataclasses.dataclass(frozen=True)
class Limits:
    """The server's bounds; ``config.data.photo_mib`` bounds a photo's pixels."""

    body_mib: float = 64  # of one request
    held_mib: float = 512  # of all requests that are not answered yet
    photos: int = 64  # of one request
    waiting: int = 256  # photos that are not answered yet, of all requests
    seconds: float = 60  # for the body of a request to arrive


class Upload(NamedTuple):
    """A photo as a client sent it."""

    name: str  # text to show; never a path
    data: bytes


class Gate:
    """Counts the photos and bytes of all requests."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.photos, self._bytes, self._lock = 0, 0.0, threading.Lock()

    @contextlib.contextmanager
    def enter(self) -> Iterator["Held"]:
        """Counts one request, which begins with one photo, until it ends.

        Raises HTTPException (503) where there is no room.
        """
        held = Held(self)
        try:
            held.add(photos=1)
            yield held
        finally:
            with self._lock:
                self.photos -= held.photos
                self._bytes -= held.num_bytes

    def add(self, photos: int, num_bytes: int) -> None:
        """Raises HTTPException (503) where there is no room."""
        with self._lock:
            full = self.photos + photos > self.limits.waiting
            if full or self._bytes + num_bytes > self.limits.held_mib * 2**20:
                raise HTTPException(503, "too many photos are waiting: ask again", RETRY_AFTER)
            self.photos += photos
            self._bytes += num_bytes


class Held:
    """The photos and bytes of one request."""

    def __init__(self, gate: Gate):
        self._gate, self.photos, self.num_bytes = gate, 0, 0

    def add(self, photos: int = 0, num_bytes: int = 0) -> None:
        """Raises HTTPException: 413 beyond the bounds of a request, 503 where there is no room."""
        most = self._gate.limits
        if self.num_bytes + num_bytes > most.body_mib * 2**20:
            raise HTTPException(413, f"a request may have {most.body_mib:g} MiB at most")
        if self.photos + photos > most.photos:
            raise HTTPException(413, f"a request may have {most.photos} photos at most")
        self._gate.add(photos, num_bytes)
        self.photos += photos
        self.num_bytes += num_bytes


class _Counted(Request):
    """A request whose body is counted as it arrives."""

    held: Held

    async def stream(self) -> AsyncGenerator[bytes, None]:
        async for chunk in super().stream():
            self.held.add(num_bytes=len(chunk))
            yield chunk


async def read_uploads(request: Request, held: Held, limits: Limits) -> list[Upload]:
    """The photos of a request: of a multipart form each file, else the body.

    Raises:
      HTTPException: 400 for no photo or a broken form, 408 for a body that does not arrive, 413
        and 503 as ``Held.add``.
    """
    counted = _Counted(request.scope, request.receive)
    counted.held = held
    try:
        async with asyncio.timeout(limits.seconds):
            found = await _read(counted, limits)
    except TimeoutError:
        raise HTTPException(408, f"the body has not arrived in {limits.seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the connection was cut") from None
    if not found:
        raise HTTPException(400, "the request holds no photo: send one as body, or as form")
    held.add(photos=len(found) - 1)
    return found


async def _read(request: _Counted, limits: Limits) -> list[Upload]:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        data = await request.body()
        name = request.query_params.get("name", "")[:_MOST_NAME]
        return [Upload(name, data)] if data else []
    found = []
    async with request.form(max_files=limits.photos, max_fields=limits.photos) as form:
        for _, value in form.multi_items():
            if not isinstance(value, UploadFile):
                raise HTTPException(400, "every part of a form must be a file")
            found.append(Upload((value.filename or "")[:_MOST_NAME], await value.read()))
    return found
