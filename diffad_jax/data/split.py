"""The split of the normal photos into those to train on and held-out ones, drawn once.

A later draw from a folder that has grown would hold out photos that training has seen. So the split
is kept beside the weights, by name and content, and every threshold is chosen by it.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from etils import epath

from diffad_jax.data import images, layouts
from diffad_jax.data.layouts import DataError
from diffad_jax.runtime import console, files, regular

FILE = "photos.json"
_THREADS = 8
_SHOWN = 5

# SHA-256 of a file's bytes, by its path below config.data.root; an absolute one for photos that
# inspectors accepted.
Hashes = dict[str, str]


class Split(NamedTuple):
    """The normal photos of a category, as they were when it was drawn."""

    train: Hashes
    held_out: Hashes
    imported: bool = False  # the weights were imported: nobody knows which photos they saw
    recalibrated: bool = False  # photos that were added later are all held out

    @classmethod
    def parsed(cls, content: Any) -> "Split":
        """The split in a JSON object; raises ValueError or TypeError where it is none."""
        found = cls(**content)
        items = [item for part in found[:2] for item in dict.items(part)]
        if not all(type(x) is str for item in items for x in item):
            raise ValueError("it does not say of which photos it was made")
        if not type(found.imported) is type(found.recalibrated) is bool:
            raise ValueError("it does not say where the weights are from")
        return found

    def describe(self) -> str:
        """The number of photos to train on and a hash of them, for a fingerprint."""
        content = json.dumps(self.train, sort_keys=True).encode()
        return (
            f"{len(self.train)} photos, names and contents "
            f"{hashlib.sha256(content).hexdigest()[:16]}"
        )


class Changes(NamedTuple):
    """The photos, by name, in which a folder differs from a split."""

    added: list[str]
    gone: list[str]
    changed: list[str]


def draw(config: ml_collections.ConfigDict, category: str, accepted: Hashes | None = None) -> Split:
    """The split that ``config.data`` makes of the photos that are there now.

    Args:
      config: the whole config.
      category: its name.
      accepted: good photos of inspectors, by absolute paths, to train on as well. A photo whose
        content equals that of a held-out or a test photo is left out.

    Raises:
      DataError: the category is missing or empty.
    """
    train, held_out = layouts.normal_photos(config, category)
    drawn = Split(of_records(config, train), of_records(config, held_out))
    more = _allowed(config, category, drawn, accepted)
    if accepted:
        console.note(
            f"{category}: {len(more)} of {len(accepted)} photos that inspectors accepted are "
            "trained on, too; the others are held out, test photos or known"
        )
    return drawn._replace(train=drawn.train | more)


def accepted_in(split: Split) -> Hashes:
    """The photos of inspectors that are trained on."""
    return {name: sha for name, sha in split.train.items() if os.path.isabs(name)}


def _allowed(
    config: ml_collections.ConfigDict, category: str, split: Split, accepted: Hashes | None
) -> Hashes:
    """Those of ``accepted`` that are no photos of the category's folder, by content."""
    if not accepted:
        return {}
    c = config.data
    records = layouts.survey(c.root, category, c.layout).records
    tested = of_records(config, [r for r in records if r.split == "test"])
    known = {*tested.values(), *split.held_out.values()}
    known |= {*split.train.values()} - {*accepted_in(split).values()}
    return {name: sha for name, sha in accepted.items() if sha not in known}


def extend(
    config: ml_collections.ConfigDict, category: str, split: Split, accepted: Hashes | None = None
) -> Split:
    """A split of the photos that are there now, for weights that begin from those of ``split``.

    Only photos that the weights have not seen are held out: as many as in a new draw, if there are
    so many. Photos of inspectors are never held out; ``accepted`` is as for ``draw``.
    """
    there = draw(config, category, accepted)
    candidates = {*there.train.values(), *there.held_out.values()} - {*accepted_in(there).values()}
    unseen = candidates - {*split.train.values()}
    held_out = {*sorted(unseen)[: len(there.held_out)]}  # by content, so equal to a new draw
    photos = there.train | there.held_out
    return Split(
        {n: h for n, h in photos.items() if h not in held_out},
        {n: h for n, h in photos.items() if h in held_out},
        imported=split.imported,
    )


def read(directory: Path) -> Split | None:
    """The split of the work in a category's ``directory``; None where there is none.

    Raises:
      DataError: its file is damaged.
    """
    path = directory / FILE
    try:
        return Split.parsed(regular.read_json(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}, which says what was held out, is damaged: put back a copy, or delete it if "
            "no photo was added or changed since training"
        ) from error


def write(directory: Path, split: Split) -> None:
    """Stores the split of the work in ``directory``.

    Raises:
      DataError: it has more photos than ``read`` takes, which would call it damaged after hours.
    """
    text = json.dumps(split._asdict(), indent=1) + "\n"
    try:
        if len(text) > regular.MOST_JSON:
            raise ValueError(f"over {regular.MOST_JSON >> 20} MiB")
        regular.parsed_json(text.encode())
    except ValueError as error:
        count = len(split.train) + len(split.held_out)
        raise DataError(
            f"{count} normal photos are too many for {directory / FILE} ({error}): take some out "
            "of the folder, or make several categories of them"
        ) from error
    files.write_whole(directory / FILE, text)


def changes(
    config: ml_collections.ConfigDict, category: str, split: Split, accepted: Hashes | None = None
) -> Changes:
    """How the category's normal photos, and the ``accepted`` ones, differ from ``split`` today."""
    c = config.data
    records = layouts.read_category(c.root, category, c.layout)
    there = {_name(c.root, r.file) for r in records if r.split == "train"}
    there |= _allowed(config, category, split, accepted).keys()
    known = split.train | split.held_out
    now = hashes(config, sorted(there & known.keys()))
    return Changes(
        sorted(there - known.keys()),
        sorted(known.keys() - there),
        [name for name, found in now.items() if found != known[name]],
    )


def paths(config: ml_collections.ConfigDict, part: Hashes) -> list[str]:
    """The files of one part of a split, in the order of their names.

    Raises:
      DataError: some are gone, or hold something else than they did.
    """
    root = config.data.root
    there = {n for n in part if epath.Path(_path(root, n)).exists()}
    now = hashes(config, sorted(there))
    if lost := [n for n in sorted(part) if now.get(n) != part[n]]:
        raise DataError(
            f"{len(lost)} of {len(part)} normal photos that this work stands on are gone from "
            f"{root}, or have changed: {shortened(lost)}. Put them back, or train anew with "
            "--retrain"
        )
    return [_path(root, n) for n in sorted(part)]


def of_records(config: ml_collections.ConfigDict, records: Sequence[layouts.Record]) -> Hashes:
    """Like ``hashes``, for the photos of a category's folder."""
    return hashes(config, [_name(config.data.root, r.file) for r in records])


def hashes(config: ml_collections.ConfigDict, names: list[str]) -> Hashes:
    """SHA-256 of files below ``config.data.root``; empty where one is unreadable.

    The decoder will say why.
    """

    def digest(name: str) -> str:
        try:
            with images.open_photo(_path(config.data.root, name), rules) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except Exception:  # each kind of storage has its own errors
            return ""

    rules = images.rules(config.data)
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(names, pool.map(digest, names), strict=True))


def shortened(names: list[str]) -> str:
    """A few of the names."""
    more = f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
    return ", ".join(names[:_SHOWN]) + more


def _name(root: str, file: str) -> str:
    if "://" in file:
        return file.removeprefix(root.rstrip("/") + "/")
    return os.path.relpath(file, os.path.expanduser(root))


def _path(root: str, name: str) -> str:
    return os.path.join(os.path.expanduser(root), name)
