"""Work directories and outputs in object storage (gs://…, s3://…): worked on as local copies.

Locks, renames and flushes need a file system, so the content is fetched before the work begins, and
what changes is copied back while it goes on. A machine that is lost takes along what it had written
since the last time; the same command goes on from there.
"""

import contextlib
import functools
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
from fsspec.core import url_to_fs

from diffad_jax.errors import UserError
from diffad_jax.runtime import console, files, lock, storage

EVERY = 30.0  # seconds between two copies


class MirrorError(UserError):
    """The storage refuses; the message says where the results are."""


class Mirrors:
    """All places of one program."""

    def __init__(self) -> None:
        self._all: list[_Mirror] = []

    def local_copy(self, place: str) -> Path:
        """Where the content of a place in object storage is on this machine, as long as it works.

        It is nothing where there is nothing in the storage.

        Raises:
          MirrorError: the storage cannot be reached, or refuses.
        """
        found = next((m for m in self._all if m.place == place), None)
        if found is None:
            found = _Mirror(place)
            self._all.append(found)
        return found.local

    def forget(self) -> None:
        """Deletes all local copies."""
        for mirror in self._all:
            mirror.delete()

    @contextlib.contextmanager
    def kept(self, every: float = EVERY) -> Iterator[None]:
        """While entered, copies changes back to the bucket; and once more at the end.

        Args:
          every: seconds between two copies.

        Raises:
          MirrorError: the last copy failed, and the local one stays; several processes run.
        """
        if not self._all:
            yield
            return
        if jax.process_count() > 1:
            self.forget()
            raise MirrorError(
                "several processes share one --workdir and --output: mount the bucket (gcsfuse, "
                "mount-s3) on all machines, and name the mounted folder"
            )
        ended = threading.Event()
        thread = threading.Thread(target=self._send_again, args=(ended, every), daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            for said in self._finish(ended, thread):
                console.note(said)  # beside the error that ended the work
            raise
        if said := self._finish(ended, thread):
            raise MirrorError("; ".join(said))

    def _send_again(self, ended: threading.Event, every: float) -> None:
        while not ended.wait(every):
            for mirror in self._all:
                try:
                    mirror.send()
                except Exception as error:  # each kind of storage has its own errors
                    console.note(f"{mirror.place} is not up to date, and is tried again: {error}")

    def _finish(self, ended: threading.Event, thread: threading.Thread) -> list[str]:
        ended.set()
        thread.join()
        return [said for mirror in self._all if (said := mirror.end())]


class _Mirror:
    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        self._folder = Path(tempfile.mkdtemp(prefix="diffad_jax-"))
        self.local = self._folder / self.place.rpartition("/")[2]
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of change, by relative path
        try:
            self._system, self._root = url_to_fs(self.place)
            self._fetch()
        except Exception as error:  # each kind of storage has its own errors
            self.delete()
            said = storage.reason(place, error)
            raise MirrorError(f"{place} cannot be fetched: {said}") from error
        console.note(
            f"{self.place}: {len(self._sent)} files fetched to {self.local}; what changes there is "
            f"copied back every {EVERY:g} seconds and at the end"
        )

    def _fetch(self) -> None:
        root = self._root.strip("/")
        names = [name.strip("/").removeprefix(root).lstrip("/")
                 for name in storage.again(lambda: self._system.find(self._root))]  # fmt: skip
        for folder in {self._path(name).parent for name in names}:
            folder.mkdir(parents=True, exist_ok=True)
        self._each(names, lambda name: self._system.get_file(self._remote(name), self._path(name)))
        self._sent = {name: _state(self._path(name)) for name in names}

    def send(self) -> None:
        """Copies what has changed since the last time, then removes what is gone."""
        found = {}
        for path in [self.local, *self.local.rglob("*")]:
            with contextlib.suppress(FileNotFoundError):  # it has got another name meanwhile
                if path.is_file() and not _passes(path.relative_to(self._folder)):
                    found["" if path == self.local else path.relative_to(self.local).as_posix()] = (
                        _state(path)
                    )

        def put(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self._system.put_file(str(self._path(name)), self._remote(name))

        self._each([name for name, state in found.items() if self._sent.get(name) != state], put)
        self._each([n for n in self._sent if n not in found], self._remove)
        self._sent = found

    def end(self) -> str:
        """Sends what is left; then deletes the local copy, or says why it stays."""
        try:
            self.send()
        except Exception as error:  # each kind of storage has its own errors
            return f"{self.place} is not up to date ({error}): copy {self.local} there"
        self.delete()
        return ""

    def delete(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._remote(name))

    def _each(self, names: list[str], call: Callable[[str], None]) -> None:
        with ThreadPoolExecutor(storage.REQUESTS) as pool:
            list(pool.map(lambda name: storage.again(functools.partial(call, name)), names))

    def _path(self, name: str) -> Path:
        return self.local / name if name else self.local

    def _remote(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


def _state(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _passes(path: Path) -> bool:
    """Whether it is only of use while the program runs."""
    return any(
        files.is_temporary(part) or files.HALF_CHECKPOINT in part or part == lock.NAME
        for part in path.parts
    )
