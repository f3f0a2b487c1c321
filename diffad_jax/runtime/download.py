"""Fetches published files once, checks them, and continues downloads that were cut off."""

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from diffad_jax.errors import UserError
from diffad_jax.runtime import caches, checksums, console, files, lock
from diffad_jax.runtime.progress import CountProgress

_MIB = 2**20
_CHUNK = 2**16  # bytes
_TIMEOUT = 30.0  # seconds without a byte
_TRIES = 5  # connections one after another that bring nothing new
_PAUSE = 1.0  # seconds after the first of them; after the second twice that, and so on


class DownloadError(UserError):
    """A file cannot be fetched; the message names its address, the reason and what to do."""


class Remote(NamedTuple):
    """A file that is published at an address."""

    url: str
    size: int  # bytes
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def fetch(remote: Remote) -> Path:
    """The file in the user's cache folder; fetched if it is missing, and checked each time.

    After a cut connection or a kill, a hidden file keeps the part that was fetched, and the next
    call goes on from it. Of several processes one fetches, and the others wait for it.

    Raises:
      DownloadError: there is no network or no such file, or it is another file than it should be.
      OSError: the cache folder cannot be written to, or the disk is full.
    """
    try:
        path = caches.folder("weights") / remote.name
    except OSError as error:
        raise DownloadError(f"{error}: set XDG_CACHE_HOME, where downloads are kept") from error
    if _is_whole(path, remote):
        return path
    with lock.wait(path.parent):
        if _is_whole(path, remote):  # by now
            return path
        if path.exists():
            console.note(f"{path} is damaged, and fetched anew")
        console.note(f"fetching {remote.url}, {remote.size / 1e6:.3g} MB, to {path}")
        _fetch(remote, path)
    return path


def _is_whole(path: Path, remote: Remote) -> bool:
    return path.is_file() and checksums.of_file(path) == remote.sha256


def _fetch(remote: Remote, path: Path) -> None:
    part, whole = path.with_name(f".{path.name}.part"), False
    while not whole:
        begun = part.exists()
        _receive_all(remote, part, path)
        whole = _is_whole(part, remote)
        if not whole:
            part.unlink()
            if not begun:  # else the earlier part may be wrong
                raise _error(remote, path, "its SHA-256 is not the known one: it is another file")
    files.give_name(part, path)


def _receive_all(remote: Remote, part: Path, path: Path) -> None:
    """Completes ``part``, over as many connections as it takes."""
    in_vain, ended = 0, ""
    while (done := _size(part)) < remote.size:
        if in_vain == _TRIES:
            raise _error(remote, path, ended, done)
        time.sleep(in_vain * _PAUSE)
        ended = _receive(remote, part, path)
        in_vain = in_vain + 1 if _size(part) <= done else 0


def _receive(remote: Remote, part: Path, path: Path) -> str:
    """Adds the data of one connection to ``part``; returns why the connection ended."""
    done = _size(part)
    with _answer(remote, path, done) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:  # it sends all
            done = 0
        if answer.length is not None and done + answer.length != remote.size:
            found = f"it has {done + answer.length} bytes instead of {remote.size}"
            raise _error(remote, path, found)
        with (
            part.open("ab" if done else "wb") as file,
            CountProgress(remote.size // _MIB, "MiB", remote.name, "connected") as progress,
        ):
            progress.update(done // _MIB)
            while done < remote.size:
                try:
                    chunk = answer.read(min(_CHUNK, remote.size - done))
                except (OSError, http.client.HTTPException) as error:
                    return _reason(error)
                if not chunk:
                    return "the connection was cut"
                file.write(chunk)
                progress.update((done + len(chunk)) // _MIB - done // _MIB)
                done += len(chunk)
    return ""


def _answer(remote: Remote, path: Path, begun: int) -> http.client.HTTPResponse:
    """The server's answer to a request for all but the first ``begun`` bytes."""
    request = urllib.request.Request(remote.url)
    if begun:
        request.add_header("Range", f"bytes={begun}-")
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise _error(remote, path, f"the server says {error.code} {error.reason}", begun) from error
    except (OSError, http.client.HTTPException) as error:
        raise _error(remote, path, _reason(error), begun) from error


def _reason(error: Exception) -> str:
    """The reason of a network error, in words."""
    cause = getattr(error, "reason", error)
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _error(remote: Remote, path: Path, reason: str, kept: int = 0) -> DownloadError:
    if kept:
        reason += f"; {kept / 1e6:.3g} of {remote.size / 1e6:.3g} MB are kept, to go on from"
    return DownloadError(
        f"cannot fetch {remote.url} ({reason}): run the same command again, or fetch it elsewhere "
        f"and put it at {path}"
    )
