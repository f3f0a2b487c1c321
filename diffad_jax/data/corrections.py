"""Inspectors' corrections, and the calibrations made from them, kept beside the weights.

``CATEGORY/corrections`` holds two files of JSON lines, and the photos and refitted weights that the
lines name by their hashes. Lines are only added, and a line counts once it ends. So everything that
was acknowledged survives the end of the process, whatever ends it.
"""

import datetime
import hashlib
import json
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from diffad_jax.data.layouts import NORMAL, DataError, Record
from diffad_jax.runtime import console, files, regular

FOLDER = "corrections"
LABELS = ("good", "defect", "none")  # none: an earlier one is taken back
_MOST_BYTES, _MOST_LINE = 2**32, 2**22  # of a file, and of a line in it
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp", b"II": ".tif",
             b"MM": ".tif"}  # fmt: skip


Weights = dict[str, dict[str, np.ndarray]]  # arrays by stage and name


class Measured(NamedTuple):
    """A detector's result for a photo, as far as calibration needs it."""

    score: float
    median: float  # of the map's pixels
    largest: float  # of them


class Correction(NamedTuple):
    """An inspector's correction of a photo."""

    sha256: str  # of the photo's bytes
    name: str  # of the photo, as it was sent
    label: str  # of ``LABELS``
    who: str
    when: str  # ISO 8601
    file: str  # the photo, below the folder
    detector: str  # that measured it, see ``mark``
    measured: Measured


class Taken(NamedTuple):
    """A calibration that an inspector took; held-out photos and these photos chose it."""

    who: str
    when: str
    detector: str  # as it was trained, see ``mark``
    threshold: float  # as it was found then
    accepted: dict[str, Measured]  # good photos, by SHA-256; measured as it was trained
    fitted: str = ""  # SHA-256 of the file of weights that were fitted anew; empty: none were


class Corrections:
    """All corrections of one category. One process writes; others may read meanwhile."""

    def __init__(self, directory: Path):
        """``directory`` is the category's. Raises DataError for files that cannot be read."""
        self._folder = directory / FOLDER
        self._lock = threading.Lock()
        self._last: dict[str, Correction] = {}
        for line in _lines(self._folder / "corrections.jsonl"):
            found = _parsed(Correction, line)
            self._last[found.sha256] = found
        self.taken = _replayed(self._folder)

    def keep(self, data: bytes, correction: Correction) -> None:
        """Keeps a photo and its correction; both are on the disk when this returns."""
        with self._lock:
            path = self._folder / correction.file
            if not _holds(path, correction.sha256):
                with files.whole(path) as temporary:
                    temporary.write_bytes(data)
            _append(self._folder / "corrections.jsonl", correction._asdict())
            self._last[correction.sha256] = correction

    def of(self, label: str) -> list[Correction]:
        """The photos with a label, in the order of their first correction."""
        with self._lock:
            return [c for c in self._last.values() if c.label == label]

    def photo(self, correction: Correction) -> bytes:
        """The bytes of a kept photo. Raises DataError where they are lost."""
        path = self._folder / correction.file
        if not _holds(path, correction.sha256):
            raise DataError(f"{path} is gone or has changed: put it back, or correct it again")
        return path.read_bytes()

    def take(self, taken: Taken, fitted: Weights) -> None:
        """Adds a calibration with its weights, see ``fitted``; it counts from now on."""
        with self._lock:
            if fitted:
                data = safetensors.numpy.save(_flat(fitted))
                taken = taken._replace(fitted=hashlib.sha256(data).hexdigest())
                with files.whole(_weights_file(self._folder, taken.fitted)) as temporary:
                    temporary.write_bytes(data)
            _append(self._folder / "calibrations.jsonl", {"undo": False, **taken._asdict()})
            self.taken.append(taken)

    def undo(self, who: str) -> None:
        """Makes the calibration before the present one count again; there must be a present one."""
        with self._lock:
            entry = {"undo": True, "who": who, "when": now()}
            _append(self._folder / "calibrations.jsonl", entry)
            self.taken.pop()


def accepted(workdir: Path, category: str) -> dict[str, str]:
    """SHA-256 of the good photos that inspectors accepted, by their absolute paths.

    Raises:
      DataError: ``workdir`` holds no corrections of the category.
    """
    folder, kept = _kept(workdir, category)
    return {str((folder / c.file).absolute()): c.sha256 for c in kept.of("good")}


def as_test_photos(
    workdir: Path, category: str, known: Collection[str]
) -> tuple[list[Record], int]:
    """Marked defects and accepted good photos, and how many of them ``known`` leaves out.

    Raises:
      DataError: ``workdir`` holds no corrections of the category; none is left.
    """
    folder, corrections = _kept(workdir, category)
    kept = [*corrections.of("good"), *corrections.of("defect")]
    found = [
        Record(str(folder / c.file), "test", NORMAL if c.label == "good" else c.label, None)
        for c in kept
        if c.sha256 not in known
    ]
    if not found:
        raise DataError(
            f"{folder} holds no photo to test on: mark defects on the page of --mode=serve, and "
            "accept good photos without recalibrating by them"
        )
    return found, len(kept) - len(found)


def _kept(workdir: Path, category: str) -> tuple[Path, Corrections]:
    folder = workdir / category / FOLDER
    if not folder.is_dir():
        raise DataError(f"{folder} is not there: --corrections names a work directory of serve")
    return folder, Corrections(workdir / category)


def present(directory: Path) -> Taken | None:
    """The calibration that counts for a category's ``directory``; None for the first one."""
    return next(reversed(_replayed(directory / FOLDER)), None)


def fitted(directory: Path, taken: Taken) -> Weights:
    """The weights that were fitted anew for a calibration, by stage; empty where none were.

    Raises:
      DataError: their file is gone or has changed.
    """
    if not taken.fitted:
        return {}
    path = _weights_file(directory / FOLDER, taken.fitted)
    if not _holds(path, taken.fitted):
        raise DataError(
            f"{path} is gone or has changed: put it back, or delete the line of "
            "calibrations.jsonl that names it"
        )
    found: Weights = {}
    for name, value in safetensors.numpy.load(path.read_bytes()).items():
        stage, _, leaf = name.partition("/")
        found.setdefault(stage, {})[leaf] = value
    return found


def mark(weights_hash: str, settings: dict[str, Any]) -> str:
    """A mark that differs where weights or settings do."""
    text = json.dumps([weights_hash, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_name(sha256: str, data: bytes) -> str:
    """Where a photo is kept, below the folder. Its name comes from its content alone."""
    suffix = next((s for head, s in _SUFFIXES.items() if data.startswith(head)), ".heic")
    return f"photos/{sha256}{suffix}"


def _weights_file(folder: Path, sha256: str) -> Path:
    return folder / "fitted" / f"{sha256}.safetensors"


def _flat(weights: Weights) -> dict[str, np.ndarray]:
    return {f"{stage}/{n}": np.asarray(v) for stage, w in weights.items() for n, v in w.items()}


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _replayed(folder: Path) -> list[Taken]:
    """The calibrations that were taken and not undone, the present one last."""
    found: list[Taken] = []
    for line in _lines(folder / "calibrations.jsonl"):
        if line.pop("undo", False):
            del found[-1:]
            continue
        taken = _parsed(Taken, line)
        accepted = {k: Measured(*v) for k, v in taken.accepted.items()}
        found.append(taken._replace(accepted=accepted))
    return found


def _parsed(kind: type, line: dict) -> Any:
    try:
        found = kind(**line)
    except TypeError as error:
        raise DataError(f"a line of {FOLDER} was written by another version: {error}") from error
    return found._replace(measured=Measured(*found.measured)) if kind is Correction else found


def _lines(path: Path) -> Iterator[dict]:
    """The complete lines of a file; none where there is no file."""
    try:
        file = regular.open_regular(path, _MOST_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    with file:
        for line in iter(lambda: file.readline(_MOST_LINE), b""):
            try:
                found = regular.parsed_json(line) if line.endswith(b"\n") else None
            except ValueError:
                found = None
            if isinstance(found, dict):
                yield found
            elif line.strip():  # a line that was cut off, and so never acknowledged
                console.note(f"{path}: a broken line is left out")


def _append(path: Path, entry: dict) -> None:
    """Adds a line, which is on the disk when this returns."""
    files.make_folder(path.parent)
    new = not path.exists()
    with path.open("ab+") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")  # closes a line that was cut off
        file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        files.sync(path.parent)


def _holds(path: Path, sha256: str) -> bool:
    try:
        with regular.open_regular(path, _MOST_BYTES) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False
