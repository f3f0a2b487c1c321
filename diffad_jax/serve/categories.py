"""The categories of one server, and which of them a photo is judged as."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from starlette.exceptions import HTTPException

from diffad_jax.data.photo import BadImage
from diffad_jax.serve.batcher import Batcher
from diffad_jax.serve.learning import Learning
from diffad_jax.serve.limits import Upload
from diffad_jax.serve.service import Answer, Common, Service

# (photos [b, h, w, 3] uint8, batch size ≥ b) -> the category of each, "" where it is of none
Tell = Callable[[np.ndarray, int], Sequence[str]]


class Entry(NamedTuple):
    """A category."""

    service: Service
    learning: Learning | str  # or a sentence on why nothing can be corrected


class Categories:
    """All that a server inspects.

    Attributes:
      entries: by category.
      first: the first one's service; all read photos within the same bounds and draw the same.
      tells: whether photos may come without their category's name.
    """

    def __init__(self, common: Common, entries: Mapping[str, Entry], tell: Tell | None = None):
        """``entries`` share what is ``common``; ``tell`` finds the category of a photo."""
        self.common, self.entries = common, dict(entries)
        self.first = next(iter(self.entries.values())).service
        most = self.first.model.batch_size
        self._telling = Batcher(tell, most, common.device) if tell else None
        self.tells = tell is not None or len(self.entries) == 1

    def named(self, name: str) -> Entry:
        """A category; of one alone it needs no name. Raises HTTPException (400)."""
        known = ", ".join(self.entries)
        if not name and len(self.entries) == 1:
            name = known
        if name not in self.entries:
            said = f"category={name}: " if name else "there are several categories: "
            raise HTTPException(400, f"{said}name one of {known}, as category=NAME")
        return self.entries[name]

    async def of(self, upload: Upload, name: str) -> Entry:
        """The category that is named, or else the one that the photo shows.

        Raises:
          HTTPException: 400 where it has to be named, or is unknown.
          photo.BadImage: it is no photo, or like none of the categories.
        """
        if name or self._telling is None:
            return self.named(name)
        window = await self.first.window(upload)
        told = await asyncio.wrap_future(self._telling.submit(window))
        if not told:
            raise BadImage(f"is like none of {', '.join(self.entries)}")
        return self.entries[told]

    async def judge(
        self, upload: Upload, name: str, wanted: Collection[str] = (), again: bool = False
    ) -> Answer:
        """``Service.judge`` by the category of ``of``; an error where it is of none."""
        try:
            entry = await self.of(upload, name)
        except BadImage as error:
            return {"name": upload.name, "error": f"the photo {error}"}
        return await entry.service.judge(upload, wanted, again)

    def warm_up(self) -> None:
        """Compiles for all sizes of batches."""
        compiled = set()
        for service, _ in self.entries.values():
            if service.model.program not in compiled:
                compiled.add(service.model.program)
                service.warm_up()
        if self._telling:
            self._telling.warm_up(self.first.model.image_size)

    def close(self) -> None:
        """Finishes running work."""
        self.common.closed = True
        for service, _ in self.entries.values():
            service.close()
        if self._telling:
            self._telling.close()
        self.common.pool.shutdown()
