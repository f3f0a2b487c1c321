"""A prediction in shards on any number of machines, and one table of all shards.

A photo's name alone decides its shard, so this stays when the folder grows. Each shard has tables
of its own, in ``OUTPUT/shard-I-of-N``. The joined table is made from them alone.
"""

import contextlib
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from diffad_jax.data.layouts import DataError
from diffad_jax.inference import writer
from diffad_jax.inference.sources import Listing
from diffad_jax.runtime import files

_FINISHED = "finished.json"
_JOINED = "joined.json"
_NAME = re.compile(r"shard-(0|[1-9][0-9]*)-of-([1-9][0-9]*)")


class Shard(NamedTuple):
    """One of ``count`` shares; ``index`` counts from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, name: str) -> bool:
        """Whether the photo of this name is one of its: about one of ``count``."""
        return zlib.crc32(os.fsencode(name)) % self.count == self.index

    def folder(self, output: Path) -> Path:
        """The folder of the shard's tables and pictures."""
        return output / f"shard-{self.index}-of-{self.count}"


class IncompleteError(DataError):
    """The joined table lacks the photos of some shards."""

    exit_status = 3


def parse(text: str) -> Shard:
    """The shard of a text I/N. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    shard = Shard(*map(int, found.groups())) if found else None
    if shard is None or shard.index >= shard.count:
        raise ValueError("it must be I/N, the I-th of N shards, and I counts from 0 to N - 1")
    return shard


@contextlib.contextmanager
def finishing(folder: Path, listing: Listing) -> Iterator[None]:
    """Encloses the work of a shard; at the end its folder is marked as finished."""
    marker = folder / _FINISHED
    marker.unlink(missing_ok=True)
    yield
    files.write_whole(marker, json.dumps({"photos": len(listing.photos)}) + "\n")


def join(output: Path, overwrite: bool = False) -> Iterator[writer.Row]:
    """Joins the tables of the shards in ``output`` into one table; yields each row.

    The table is there once all rows are taken. Memory does not grow with their number. The rows of
    an unfinished shard are included.

    Raises:
      DataError: there is no shard; shards have several counts; or the table to be replaced holds
        more rows than an earlier joining wrote.
      OSError: a table cannot be read or written.
    """
    found = _shards(output)
    if not overwrite and writer.stamp(output) not in (None, files.read_json(output / _JOINED)):
        raise DataError(
            f"{output} holds predictions that are of no shard: choose another --output, or replace "
            "them with --overwrite"
        )
    yield from writer.join(output, [shard.folder(output) for shard in found])
    files.write_whole(output / _JOINED, json.dumps(writer.stamp(output)) + "\n")


def missing(output: Path) -> list[Shard]:
    """The shards that are missing, or not finished."""
    found = _shards(output)
    finished = {s for s in found if (s.folder(output) / _FINISHED).exists()}
    return [s for i in range(found[0].count) if (s := Shard(i, found[0].count)) not in finished]


def _shards(output: Path) -> list[Shard]:
    names = [_NAME.fullmatch(entry.name) for entry in output.iterdir()] if output.is_dir() else []
    found = sorted(Shard(*map(int, name.groups())) for name in names if name)
    if not found:
        raise DataError(f"no shard in {output}: --mode=predict --shard=I/N writes them there")
    counts = sorted({shard.count for shard in found})
    if len(counts) > 1:
        raise DataError(
            f"{output} has shards of {counts[0]} and of {counts[1]}: remove those that do not count"
        )
    return found
