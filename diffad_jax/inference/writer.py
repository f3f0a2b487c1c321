"""The files of a prediction: two tables that survive a kill, and pictures."""

import collections
import contextlib
import csv
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from PIL import Image

from diffad_jax.data import pictures
from diffad_jax.data.layouts import DataError
from diffad_jax.data.split import shortened
from diffad_jax.inference import batching, regions
from diffad_jax.inference.sources import Listing, Photo
from diffad_jax.runtime import cells, console, files, regular

_LINES, _TABLE = "predictions.jsonl", "predictions.csv"
PICTURES = ("overlay", "heat_map", "reconstruction", "mask")
_MOST_BYTES, _MOST_LINE = 2**36, 2**20  # of the JSONL, which is read line by line
_THUMBNAILS, _THUMBNAIL = "thumbnails", 240  # their folder, and pixels of their longer side
Row = dict[str, Any]


class Made(NamedTuple):
    """The settings behind the scores and verdicts of one call."""

    settings: Row  # all that scores depend on besides the photo
    threshold: float | None
    pixel_threshold: float | None
    save: Sequence[str]  # pictures for each photo, of ``PICTURES``

    @property
    def detector(self) -> str:
        """A mark that differs by weights and settings; ``settings.json`` explains it."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]


class Tables:
    """``predictions.jsonl``, and the same as ``predictions.csv`` for spreadsheets.

    A row is final once its line in the JSONL ends. Rows of other photos stay: each row names its
    detector and its threshold. A listed photo's row is kept if it has the same settings, file and
    pictures. Otherwise the photo is scored again. The new row replaces rows without a score and
    rows of the same settings; it replaces any other only with ``overwrite``.
    """

    def __init__(self, output: Path, listing: Listing, made: Made, overwrite: bool = False):
        """Raises DataError for rows that may not be replaced; OSError."""
        self._output, self._made = output, made
        self._lines, self._table = output / _LINES, output / _TABLE
        self._listed = {os.path.join(listing.root, p.name): p for p in listing.photos}
        self._last: dict[str, int] = {}  # path -> the line that counts
        self._kinds = set(made.save)
        self._older: dict[str, Row] = {}  # rows of listed photos that are to be replaced
        self.done: set[str] = set()  # names of photos whose rows hold
        self.prefix = ""  # of pictures' names, where others have the plain ones
        self._look(listing, overwrite)
        self._add_settings()
        self._rewrite()
        self._files = [_open(path, "a") for path in (self._lines, self._table)]

    def __enter__(self) -> "Tables":
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        if self._older:
            self._last.clear()
            self._last.update((path_of(row), i) for i, row in self._rows())
            self._rewrite()

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows to both files, so that other programs see them."""
        for row in rows:
            row |= {
                "detector": self._made.detector,
                "threshold": self._made.threshold,
                "pixel_threshold": self._made.pixel_threshold,
            }
            older = self._older.get(path_of(row), {})
            row |= {kind: older[kind] for kind in PICTURES if kind in older and kind not in row}
        lines, table = self._files
        lines.write("".join(map(_json_line, rows)))
        lines.flush()
        csv.writer(table).writerows(_csv_fields(row, self._kinds) for row in rows)
        table.flush()

    def _look(self, listing: Listing, overwrite: bool) -> None:
        """Reads and sorts the rows that are there; writes nothing."""
        if self._table.exists() and not self._lines.exists() and not overwrite:
            raise DataError(
                f"{self._table} has no predictions.jsonl beside it, so it is not of this program: "
                "choose another --output, or replace it with --overwrite"
            )
        self._last = {path_of(row): i for i, row in self._rows(says=True)}
        taken: set[str] = set()
        refused: dict[str, list[str]] = {}
        for i, row in self._rows():
            path = path_of(row)
            if self._last[path] != i:
                continue
            self._kinds.update(kind for kind in PICTURES if kind in row)
            photo = self._listed.get(path)
            if photo is None:
                taken.update(row[kind] for kind in PICTURES if kind in row)
            elif row["error"] is not None:
                del self._last[path]  # nothing is lost with it
            elif reason := self._differs(row, photo):
                refused.setdefault(reason, []).append(photo.name)
                self._older[path] = {}
            elif self._has_pictures(row):
                self.done.add(photo.name)
            else:
                self._older[path] = row
        if refused and not overwrite:
            raise DataError(
                f"{self._output} holds results that would be replaced: "
                + "; ".join(f"{reason}: {shortened(names)}" for reason, names in refused.items())
                + ". Choose another --output, or replace them with --overwrite"
            )
        planned = (f"{p.name}.{kind}.png" for p in listing.photos for kind in self._made.save)
        if not taken.isdisjoint(planned):
            mark = hashlib.sha256(os.fsencode(listing.root)).hexdigest()[:6]
            self.prefix = f"{os.path.basename(listing.root)}-{mark}/"

    def _differs(self, row: Row, photo: Photo) -> str:
        """The reason why this call would not make the same row."""
        if row.get("detector") != self._made.detector:
            there = files.read_json(self._output / "settings.json").get(row.get("detector"), {})
            here = self._made.settings
            fields = [f for f in here | there if there.get(f) != here.get(f)] if there else []
            said = "; ".join(f"{f}: {there.get(f)} there, {here.get(f)} here" for f in fields)
            return f"made by another detector ({said or 'not known which'})"
        if row["threshold"] != self._made.threshold:
            there, here = (
                "without a threshold" if t is None else f"by threshold {t}"
                for t in (row["threshold"], self._made.threshold)
            )
            return f"judged {there}, not {here}"
        if row.get("pixel_threshold") != self._made.pixel_threshold:
            return "outlined by another pixel threshold"
        if (row["bytes"], row["modified_ns"]) != (photo.num_bytes, photo.modified_ns):
            return "of photos that have changed since"
        return ""

    def _has_pictures(self, row: Row) -> bool:
        return all(k in row and (self._output / row[k]).exists() for k in self._made.save)

    def _add_settings(self) -> None:
        path = self._output / "settings.json"
        stored = files.read_json(path)
        if stored.get(self._made.detector) != self._made.settings:
            stored[self._made.detector] = self._made.settings
            files.write_whole(path, json.dumps(stored, indent=2) + "\n")

    def _rewrite(self) -> None:
        """Writes both files anew with the rows that count."""
        rows = (row for i, row in self._rows() if self._last.get(path_of(row)) == i)
        collections.deque(_write_tables(self._output, rows, self._kinds), maxlen=0)

    def _rows(self, says: bool = False) -> Iterator[tuple[int, Row]]:
        return read_rows(self._output, says)


def join(output: Path, folders: Sequence[Path]) -> Iterator[Row]:
    """Writes the tables and settings of ``folders``, which lie in ``output``, as one.

    The pictures stay where they are. Yields each row; the tables are there once all are taken.
    """
    settings: Row = {}
    kinds: set[str] = set()
    for folder in folders:
        settings |= files.read_json(folder / "settings.json")
        kinds |= _kinds_in(folder)

    def rows() -> Iterator[Row]:
        for folder in folders:
            for _, row in read_rows(folder, says=True):
                moved = {k: f"{folder.name}/{row[k]}" for k in (*PICTURES, "thumbnail") if k in row}
                yield row | moved

    files.write_whole(output / "settings.json", json.dumps(settings, indent=2) + "\n")
    yield from _write_tables(output, rows(), kinds)


def _kinds_in(folder: Path) -> set[str]:
    """The kinds of pictures that rows of a folder name; found without parsing them."""
    keys = {kind: f'"{kind}": '.encode() for kind in PICTURES}  # in a text its quotes are escaped
    return {k for line in _lines_of(folder) for k, key in keys.items() if key in line}


def stamp(output: Path) -> Row | None:
    """A stamp that changes with ``predictions.jsonl``; None where there is no such file."""
    try:
        status = (output / _LINES).stat()
    except FileNotFoundError:
        return None
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _write_tables(output: Path, rows: Iterable[Row], kinds: Collection[str]) -> Iterator[Row]:
    """Both tables, whole or not at all; yields each row, and ends when they are there."""
    shown = [kind for kind in PICTURES if kind in kinds]
    header = ["file", "score", "is_anomalous", "threshold", "detector", *shown, "error"]
    with contextlib.ExitStack() as stack:
        paths = [stack.enter_context(files.whole(output / name)) for name in (_LINES, _TABLE)]
        lines, table = (stack.enter_context(_open(path, "w")) for path in paths)
        in_table = csv.writer(table)
        in_table.writerow(header)
        for row in rows:
            lines.write(_json_line(row))
            in_table.writerow(_csv_fields(row, kinds))
            yield row


def read_rows(output: Path, says: bool = False) -> Iterator[tuple[int, Row]]:
    """The complete lines of ``predictions.jsonl`` by number; ``says`` names broken ones."""
    for i, line in enumerate(_lines_of(output)):
        row = _parse(line)
        if row.get("name") is not None:
            yield i, row
        elif says:
            console.note(f"{output / _LINES}: a broken line is dropped")


def _lines_of(output: Path) -> Iterator[bytes]:
    """An endless line comes in pieces, none of which is complete."""
    path = output / _LINES
    if path.exists():
        with regular.open_regular(path, _MOST_BYTES) as file:
            yield from iter(lambda: file.readline(_MOST_LINE), b"")


def write_row(
    photo: Photo,
    result: batching.Scored | batching.Unreadable,
    *,
    root: str,
    threshold: float | None,
    scale: pictures.Scale,
    output: Path,
    prefix: str,
    save: Sequence[str],
) -> Row:
    """Writes a photo's pictures and gives its row; pictures that cannot be written are an error.

    All pictures have the photo's size, or the reduced size of a photo in strips. Overlay and heat
    map have a legend below. Where the map is above the pixel threshold, ``scale.threshold``, the
    mask is white and regions lie.
    """
    row = to_row(photo, result, root=root, threshold=threshold, pixel_threshold=scale.threshold)
    if isinstance(result, batching.Unreadable):
        return row
    thumbnail = f"{_THUMBNAILS}/{prefix}{photo.name}.jpg"
    # The suffix stays in the name, so that a.png and a.jpg get different names.
    shown = {kind: f"{prefix}{photo.name}.{kind}.png" for kind in save}
    try:
        for kind, name in shown.items():
            pixels = _picture(kind, result, threshold, scale)
            _write_image(output / name, pixels, "PNG", compress_level=1)
        _write_image(output / thumbnail, _thumbnail(result, scale), "JPEG", quality=80)
    except OSError as error:  # a name may be too long
        reason = f"the pictures of {photo.path} cannot be written: {error}"
        return to_row(photo, batching.Unreadable(photo.path, reason), root=root)
    return row | {"thumbnail": thumbnail} | shown


def to_row(
    photo: Photo,
    result: batching.Scored | batching.Unreadable,
    *,
    root: str,
    threshold: float | None = None,
    pixel_threshold: float | None = None,
) -> Row:
    """A photo's row in the tables: score, verdict, regions of the highest peaks; or an error."""
    row: Row = {
        "file": photo.path, "score": None, "is_anomalous": None, "root": root, "name": photo.name,
        "bytes": photo.num_bytes, "modified_ns": photo.modified_ns, "error": None,
    }  # fmt: skip
    if isinstance(result, batching.Unreadable):
        return row | {"error": result.reason}
    width, height = result.size
    found_regions = regions.find(result.anomaly_map, pixel_threshold, result.size)
    return row | {
        "score": result.score,
        "is_anomalous": None if threshold is None else result.score > threshold,
        "width": width,
        "height": height,
        "windows": result.num_windows,
        "pictures_reduced": result.reduction,
        "num_regions": len(found_regions),
        "regions": [region._asdict() for region in found_regions[: regions.MOST_LISTED]],
    }


def memory_to_draw(result: batching.Scored | batching.Unreadable) -> int:
    """Bytes, about: the photo, its map, the picture, its outlines, its legend, and the PNG."""
    if isinstance(result, batching.Unreadable):
        return 0
    height, width = result.photo.shape[:2]
    return 20 * height * width


def _picture(
    kind: str, scored: batching.Scored, threshold: float | None, scale: pictures.Scale
) -> np.ndarray:
    """[h, w, 3] uint8 and more rows with a legend, or [h, w] for the mask."""
    size = scored.photo.shape[1::-1]
    if kind == "reconstruction":
        return pictures.stretched(pictures.to_bytes(scored.reconstruction), size)
    if kind == "mask":
        return np.uint8(255 * pictures.above(scored.anomaly_map, scale.threshold, size))
    if kind == "heat_map":
        drawn = pictures.heat_map(pictures.stretched(scored.anomaly_map, size), scale)
    else:
        drawn = pictures.overlay(scored.photo, scored.anomaly_map, scale)
    return pictures.legend(drawn, pictures.verdict(scored.score, threshold), scale)


def _thumbnail(scored: batching.Scored, scale: pictures.Scale) -> np.ndarray:
    """The overlay of the reduced photo, [h, w, 3] uint8: its outline is no thinner than others'."""
    small = Image.fromarray(scored.photo)
    small.thumbnail((_THUMBNAIL, _THUMBNAIL), reducing_gap=2.0)
    return pictures.overlay(np.asarray(small), scored.anomaly_map, scale)


def _write_image(path: Path, pixels: np.ndarray, kind: str, **how: int) -> None:
    """Writes a picture whole or not at all; its folder is made."""
    with files.whole(path) as temporary:
        Image.fromarray(pixels).save(temporary, kind, **how)


# File names may hold bytes that are no UTF-8: they pass through as they are.
def _open(path: Path, mode: str) -> TextIO:
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")


def _json_line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _csv_fields(row: Row, kinds: Collection[str]) -> list[Any]:
    scored = row["error"] is None
    verdict = "" if row["is_anomalous"] is None else int(row["is_anomalous"])
    score = f"{row['score']:.6f}" if scored else ""
    threshold = "" if row.get("threshold") is None else f"{row['threshold']:.6f}"
    shown = (row.get(kind, "") for kind in PICTURES if kind in kinds)
    fields = [score, verdict, threshold, row.get("detector", ""), *shown, row["error"] or ""]
    return cells.plain([row["file"], *fields])


def path_of(row: Row) -> str:
    """The absolute path of a row's photo."""
    return os.path.join(row.get("root", ""), row["name"])


def _parse(line: bytes) -> Row:
    """{} where the line is damaged or its end is missing."""
    try:
        content = regular.parsed_json(line) if line.endswith(b"\n") else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
