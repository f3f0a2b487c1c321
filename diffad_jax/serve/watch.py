"""A folder of this machine, whose new photos are inspected as they come."""

import asyncio
import collections
import hashlib
import os
import time
from pathlib import Path

from starlette.exceptions import HTTPException

from diffad_jax.data import images, listing
from diffad_jax.errors import UserError
from diffad_jax.runtime import console
from diffad_jax.serve.categories import Categories
from diffad_jax.serve.limits import Upload
from diffad_jax.serve.service import Answer

_EVERY = 1.0  # seconds
_KEPT = 1000  # answers
_Stamp = tuple[int, int]  # size, time of the last change


class Watch:
    """Lists the folder again and again; a file counts once two listings find it unchanged."""

    def __init__(self, categories: Categories, folder: Path, every: float = _EVERY):
        """Photos that are there already are ignored. Raises DataError if there is no folder."""
        self._categories, self._folder, self._every = categories, str(folder), every
        if not folder.is_dir():
            raise listing.DataError(f"--watch={folder} is no folder")
        self._seen = self._look()
        self._before: dict[str, _Stamp] = {}
        self._trouble = ""  # why the last listing failed
        self._answers: collections.OrderedDict[int, tuple[str, Answer]] = collections.OrderedDict()
        # An open page remembers numbers of the server before: none may stand for another photo.
        self._last = time.time_ns() // 10**6

    async def run(self) -> None:
        """Inspects new photos until it is cancelled."""
        while True:
            await asyncio.sleep(self._every)
            try:
                now = await asyncio.to_thread(self._look)
            except UserError as error:  # the folder is away, perhaps for a moment
                if str(error) != self._trouble:
                    console.note(f"--watch: no new photo is inspected, since {error}")
                self._trouble = str(error)
                continue
            self._trouble = ""
            if now:  # an empty folder may be one that is away, and comes back with the same photos
                self._seen = {p: s for p, s in self._seen.items() if p in now}
            for path, stamp in now.items():
                if self._seen.get(path) != stamp and self._before.get(path) == stamp:
                    await self._inspect(path)
                    self._seen[path] = stamp
            self._before = now

    def after(self, number: int) -> list[Answer]:
        """The answers after a given one, a hundred at most, each with its number as ``id``."""
        newer = [i for i in self._answers if i > number][:100]
        return [{"id": i, **self._answers[i][1]} for i in newer]

    async def read(self, number: int) -> tuple[Upload, str]:
        """A photo by the number of its answer, and the category that it was judged as.

        Raises HTTPException (404) where it is gone, or another one has its name.
        """
        if number not in self._answers:
            raise HTTPException(404, "there is no such photo, or no longer")
        path, answer = self._answers[number]
        try:
            upload = await asyncio.to_thread(self._read, path)
        except OSError as error:
            raise HTTPException(404, f"the photo cannot be read: {error.strerror}") from error
        found = hashlib.sha256(upload.data).hexdigest()
        if answer.get("sha256", found) != found:
            raise HTTPException(404, "the photo has changed since: it has a newer answer")
        return upload, answer.get("category", "")

    async def _inspect(self, path: str) -> None:
        answer = await self._answer(path)
        self._last += 1
        self._answers[self._last] = path, answer
        if len(self._answers) > _KEPT:
            self._answers.popitem(last=False)

    async def _answer(self, path: str) -> Answer:
        name = self._name(path)
        above = name.partition("/")[0]
        category = above if above in self._categories.entries else ""
        while True:
            try:
                with self._categories.common.gate.enter() as held:
                    upload = await asyncio.to_thread(self._read, path)
                    held.add(num_bytes=len(upload.data))
                    return await self._categories.judge(upload, category)
            except OSError as error:
                return {"name": name, "error": f"cannot be read: {error.strerror}"}
            except HTTPException as error:
                if error.status_code != 503:
                    return {"name": name, "error": error.detail}
                await asyncio.sleep(self._every)  # others have the queue full
            except Exception as error:  # as of the device; the next photo is tried
                console.note(f"{name} has no score: {error}")
                return {"name": name, "error": f"has no score: {error}"}

    def _read(self, path: str) -> Upload:
        with images.open_photo(path, self._categories.first.model.rules) as file:
            return Upload(self._name(path), file.read())

    def _name(self, path: str) -> str:
        """The path below the folder; bytes that are no text become question marks."""
        return os.fsencode(os.path.relpath(path, self._folder)).decode("utf-8", "replace")

    def _look(self) -> dict[str, _Stamp]:
        found: dict[str, _Stamp] = {}
        for path in listing.find_photos(self._folder, "")[0]:
            try:
                status = os.stat(path)
            except OSError:
                continue
            found[path] = status.st_size, status.st_mtime_ns
        return found
