"""An exported folder, checked before anything in it is used; needs NumPy alone.

Exported models carry a copy of this file and of the files that it imports.
"""

import math
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from diffad_jax.runtime import checksums, regular

CHECKSUMS, CARD = "SHA256SUMS", "model.json"
SHARED = "../shared/"  # of files that several categories have in common, as HASH-NAME
_REMEDY = "copy the exported folder again, or export it again"
_MOST_BYTES = 2**24  # of the list of checksums, of the card, and of a header of weights
_MOST_GRAPH = 2**34  # of weights, and of a graph
_MOST_FILES = 2**16
_DTYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}

# [b, h, w, 3] uint8 RGB and a seed -> ``score`` [b] and ``anomaly_map`` [b, h, w].
Detect = Callable[[np.ndarray, int], dict[str, np.ndarray]]


class Kept:
    """What was made of a file."""

    def __init__(self, value: Any):
        self.value = value


_KEPT: weakref.WeakValueDictionary[Path, Kept] = weakref.WeakValueDictionary()


class ArtifactError(ValueError):
    """An exported model cannot be used; the message names the file and the remedy."""


def read_card(folder: Path) -> dict:
    """The model card, after every file has been compared with its checksum.

    Raises:
      ArtifactError: a file is missing or has changed since the export; the card lacks a field that
        running the model needs.
    """
    lines = _text(folder / CHECKSUMS).split("\n", _MOST_FILES)
    if len(lines) > _MOST_FILES:
        raise ArtifactError(f"{folder / CHECKSUMS} lists over {_MOST_FILES} files: {_REMEDY}")
    sums = {name: value for value, _, name in (line.partition("  ") for line in lines if line)}
    shared = {name.removeprefix(SHARED): sums[name] for name in sums if name.startswith(SHARED)}
    own = {name: value for name, value in sums.items() if not name.startswith(SHARED)}
    if fault := checksums.fault(folder, own):
        raise ArtifactError(f"{folder}, {CHECKSUMS}: {fault}: {_REMEDY}")
    if shared and (fault := checksums.fault(folder / SHARED, shared)):
        raise ArtifactError(f"{folder}, {CHECKSUMS}: in {SHARED}, {fault}: {_REMEDY}")
    card = _json(folder / CARD) if CARD in sums else {"files": []}
    if CARD in sums and (field := _bad_field(card)):
        raise ArtifactError(f"{folder / CARD}: {field} is missing or impossible: {_REMEDY}")
    if missing := {CARD, *card["files"]} - sums.keys():
        raise ArtifactError(f"{folder / CHECKSUMS} is cut short, without {min(missing)}: {_REMEDY}")
    return card


def listed(folder: Path, card: dict, name: str) -> Path:
    """A file or a folder of the graph, also a file of ``SHARED``; checksums have been compared.

    Raises:
      ArtifactError: a file is not among the card's.
    """
    for file in card["files"]:
        if file.startswith(SHARED) and file.partition("-")[2] == name:
            return folder / file
    below = (p.relative_to(folder).as_posix() for p in (folder / name).rglob("*") if p.is_file())
    names = set(below) if (folder / name).is_dir() else {name}
    if unknown := (names or {name}) - set(card["files"]):
        raise ArtifactError(f"{folder / CARD} does not list {min(unknown)}: {_REMEDY}")
    return folder / name


def once(path: Path, make: Callable[[Path], Any]) -> Kept:
    """What ``make`` gives for a file; of a shared one all get the same, as long as one keeps it."""
    place = path.resolve()
    if f"../{place.parent.name}/" != SHARED:
        return Kept(make(path))
    if (kept := _KEPT.get(place)) is None:
        kept = _KEPT[place] = Kept(make(path))
    return kept


def start(load: Callable[[Path, dict], Detect], folder: Path, card: dict) -> Detect:
    """The graph that a format's ``load`` gives.

    Raises:
      ArtifactError: a package is not installed; the runtime refuses the graph.
    """
    try:
        return load(folder, card)
    except ArtifactError:
        raise
    except ImportError as error:
        raise ArtifactError(f"{error}: pip install {' '.join(card['runtime'])}") from error
    except Exception as error:  # each runtime raises its own kinds
        raise ArtifactError(f"{folder}: {type(error).__name__}: {error}: {_REMEDY}") from error


def seed(card: dict, wanted: int | None) -> int:
    """The graph's seed: the wanted one, else the card's.

    Raises:
      ArtifactError: the graph takes no seed, and another one than its own is wanted.
    """
    chosen = card["seed"] if wanted is None else wanted & 0xFFFFFFFF  # as JAX takes it
    if chosen != card["seed"] and "seed" not in card["inputs"]:
        raise ArtifactError(
            f"this graph has the seed {card['seed']} inside: export one with a seed"
        )
    return chosen


def write_checksums(folder: Path, shared: Iterable[str] = ()) -> None:
    """Writes SHA256SUMS, the last file, for ``read_card`` and for ``sha256sum -c SHA256SUMS``.

    ``shared`` are files of ``SHARED`` that belong to the folder, too.
    """
    sums = checksums.of_folder(folder)
    sums |= {name: checksums.of_file(folder / name) for name in shared}
    text = "".join(f"{value}  {name}\n" for name, value in sums.items())
    (folder / CHECKSUMS).write_text(text, encoding="utf-8")


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The float32 and float16 tensors of a safetensors file, by name.

    Raises:
      ArtifactError: the file is no safetensors file.
    """
    data = read(path)
    body = 8 + int.from_bytes(data[:8], "little")
    try:
        if not 8 < body <= min(len(data), _MOST_BYTES):
            raise ValueError("no header")
        header = regular.parsed_json(data[8:body])
        tensors = {k: _tensor(data, body, v) for k, v in header.items() if k != "__metadata__"}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}): {_REMEDY}") from error
    if sum(tensor.nbytes for tensor in tensors.values()) != len(data) - body:
        raise ArtifactError(f"{path} is damaged (its tensors do not fill it): {_REMEDY}")
    return tensors


def _tensor(data: bytes, body: int, entry: dict) -> np.ndarray:
    dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not all(_is_integer(n, 0, len(data)) for n in (*shape, begin, end)):
        raise ValueError("a shape or a place is no number of the file's")
    if not begin <= end <= len(data) - body or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError("a tensor does not fit into its place")
    values = np.frombuffer(data, dtype, math.prod(shape), body + begin)
    return values.reshape(shape)


def _text(path: Path) -> str:
    try:
        return read(path, _MOST_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is damaged ({error}): {_REMEDY}") from error


def read(path: Path, most_bytes: int = _MOST_GRAPH) -> bytes:
    """The content of one of the folder's files.

    Raises:
      ArtifactError: it is absent, no regular file, or too large.
    """
    try:
        return regular.read_regular(path, most_bytes)
    except OSError as error:
        raise ArtifactError(
            f"{path.parent} is no exported model, {path.name}: {error.strerror}: {_REMEDY}"
        ) from error


def _json(path: Path) -> Any:
    try:
        return regular.parsed_json(read(path, _MOST_BYTES))
    except ArtifactError:
        raise
    except ValueError as error:
        raise ArtifactError(f"{path} is no JSON ({error}): {_REMEDY}") from error


def _bad_field(card: Any) -> str:
    """The first field of the card that no program can use; empty if there is none."""
    if not isinstance(card, dict):
        return "its content"
    checks: dict[str, Callable[[Any], bool]] = {
        **dict.fromkeys(("format", "category", "method", "weights"), lambda x: isinstance(x, str)),
        "config": lambda x: isinstance(x, dict),
        "runtime": _is_names,
        "files": _is_names,
        "inputs": lambda x: isinstance(x, dict),
        "seed": lambda x: _is_integer(x, 0, 2**32 - 1),
        "preprocessing": lambda x: (
            len(x["size"]) == 2
            and all(_is_integer(side, 1, 2**16) for side in x["size"])
            and _is_integer(x["bit_depth"], 0, 16)
            and x["resize"] in ("bilinear", "antialias")
            and _is_number(x.get("photo_mib", 0))  # earlier versions did not state it
        ),
        "threshold": lambda x: (
            x is None
            or (_is_number(x["value"]) and _is_number(x["false_alarm_rate"]))
            and all(_is_integer(x[f"num_{n}"], 0, 2**31) for n in ("held_out_normal", "accepted"))
        ),
        "pixel_threshold": lambda x: x is None or _is_number(x["value"]),
        "colours": lambda x: _is_number(x["low"]) and _is_number(x["high"]),
    }
    for name, fits in checks.items():
        try:
            if fits(card[name]):
                continue
        except (LookupError, TypeError, OverflowError):
            pass
        return name
    return ""


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, str) for x in value)


def _is_integer(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
