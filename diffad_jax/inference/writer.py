"""The files that prediction leaves: two tables that survive being killed, and pictures."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import ml_collections
import numpy as np
from PIL import Image

from diffad_jax.data import pictures
from diffad_jax.inference import batching
from diffad_jax.inference.sources import Photo
from diffad_jax.runtime import console, files

PICTURES = ("overlay", "heat_map", "reconstruction", "mask")
Row = dict[str, Any]


class Tables:
    """``predictions.jsonl``, and the same as ``predictions.csv`` for spreadsheets.

    A row is final once its line in the JSONL ends. On opening, both files are written anew with the
    rows that still hold: a half-written line is dropped, and so are rows of photos that are to be
    scored again because they changed, could not be read, or lost a picture. Rows of photos outside
    the listing stay. If ``settings.json`` differs from these settings, all rows go.
    """

    def __init__(self, output: Path, settings: Row, photos: Iterable[Photo]):
        """Raises OSError where a file cannot be written."""
        self._output = output
        self._pictures = [kind for kind in PICTURES if kind in settings["save"]]
        self._lines, self._table = output / "predictions.jsonl", output / "predictions.csv"
        files.make_folder(output)
        self._start_anew_if_changed(settings)
        self.done: set[str] = set()  # names of photos whose rows hold
        self._rewrite({photo.name: photo for photo in photos})
        self._files = [_open(path, "a") for path in (self._lines, self._table)]

    def __enter__(self) -> "Tables":
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows to both files, which are then up to date for other programs."""
        for file, to_text in zip(self._files, (_json_line, self._csv_line), strict=True):
            file.write("".join(map(to_text, rows)))
            file.flush()

    def _start_anew_if_changed(self, settings: Row) -> None:
        path = self._output / "settings.json"
        stored = _read_json(path)
        if stored == settings:
            return
        if self._lines.exists():
            fields = [f for f in settings | stored if stored.get(f) != settings.get(f)]
            there = (f"{f}: {stored.get(f)} there, {settings.get(f)} here" for f in fields)
            reason = "; ".join(there) if stored else f"{path} is missing or damaged"
            console.note(f"all photos are scored anew: {reason}")
        # Before the new settings are there: they must never stand beside old rows.
        self._lines.unlink(missing_ok=True)
        files.sync(self._output)
        files.write_whole(path, json.dumps(settings, indent=2) + "\n")

    def _rewrite(self, photos: dict[str, Photo]) -> None:
        with (
            files.whole(self._lines) as new_lines,
            files.whole(self._table) as new_table,
            _open(new_lines, "w") as lines,
            _open(new_table, "w") as table,
        ):
            header = ["file", "score", "is_anomalous", *self._pictures, "error"]
            table.write(_csv_text(header))
            for row in self._kept(photos):
                lines.write(_json_line(row))
                table.write(self._csv_line(row))

    def _kept(self, photos: dict[str, Photo]) -> Iterator[Row]:
        if not self._lines.exists():
            return
        with _open(self._lines, "r") as file:
            for line in file:
                row = _parse(line)
                name = row.get("name")
                if name is None:
                    console.note(f"{self._lines}: a broken line is dropped")
                elif name not in photos:
                    yield row
                elif name not in self.done and self._holds(row, photos[name]):
                    self.done.add(name)
                    yield row

    def _holds(self, row: Row, photo: Photo) -> bool:
        same = (row["bytes"], row["modified_ns"]) == (photo.num_bytes, photo.modified_ns)
        shown = (self._output / row[kind] for kind in self._pictures if kind in row)
        return row["error"] is None and same and all(map(os.path.exists, shown))

    def _csv_line(self, row: Row) -> str:
        scored = row["error"] is None
        verdict = "" if row["is_anomalous"] is None else int(row["is_anomalous"])
        score = f"{row['score']:.6f}" if scored else ""
        shown = (row.get(kind, "") for kind in self._pictures)
        return _csv_text([row["file"], score, verdict, *shown, row["error"] or ""])


def write_row(
    photo: Photo,
    result: batching.Scored | batching.Unreadable,
    *,
    threshold: float | None,
    map_range: tuple[float, float],
    output: Path,
    save: Sequence[str],
    config: ml_collections.FrozenConfigDict,
) -> Row:
    """Writes a photo's pictures and gives its row; pictures that cannot be written are an error.

    All pictures have the photo's size. The mask is white where the smoothed map exceeds the
    threshold, so it is black for a good photo.
    """
    row: Row = {
        "file": photo.path, "score": None, "is_anomalous": None, "name": photo.name,
        "bytes": photo.num_bytes, "modified_ns": photo.modified_ns, "error": None,
    }  # fmt: skip
    if isinstance(result, batching.Unreadable):
        return row | {"error": result.reason}
    # The suffix stays inside the name, so that a.png and a.jpg do not meet.
    shown = {kind: f"{photo.name}.{kind}.png" for kind in save}
    try:
        for kind, name in shown.items():
            _write_png(output / name, _picture(kind, result, threshold, map_range, config))
    except OSError as error:  # a name may be too long
        return row | {"error": f"the pictures of {photo.path} cannot be written: {error}"}
    height, width = result.photo.shape[:2]
    found = {
        "score": result.score,
        "is_anomalous": None if threshold is None else result.score > threshold,
        "width": width,
        "height": height,
        "windows": result.num_windows,
    }
    return row | found | shown


def _picture(
    kind: str,
    scored: batching.Scored,
    threshold: float,
    map_range: tuple[float, float],
    config: ml_collections.FrozenConfigDict,
) -> np.ndarray:
    """[h, w, 3] uint8, or [h, w] for the mask."""
    size = scored.photo.shape[1::-1]
    if kind == "reconstruction":
        return _fitted(pictures.to_bytes(scored.reconstruction), size)
    if kind == "mask":
        above = batching.score_map(scored.anomaly_map, config) > threshold
        # A score that equals the threshold is no alarm, though rounding may differ here.
        above &= scored.score > threshold
        return _fitted(np.uint8(255 * above), size, Image.Resampling.NEAREST)
    anomaly_map = _fitted(scored.anomaly_map, size)
    if kind == "heat_map":
        return pictures.heat_map(anomaly_map, map_range)
    return pictures.overlay(scored.photo, anomaly_map, map_range)


def _fitted(
    pixels: np.ndarray,
    size: tuple[int, int],
    rule: Image.Resampling = Image.Resampling.BILINEAR,
) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, rule))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    """Whole or not at all; its folder is made."""
    with files.whole(path) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG", compress_level=1)


# File names may hold bytes that are no UTF-8: they pass through as they are.
def _open(path: Path, mode: str) -> TextIO:
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")


def _json_line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _csv_text(fields: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(fields)
    return text.getvalue()


def _read_json(path: Path) -> Row:
    return _parse(path.read_text(encoding="utf-8") + "\n") if path.exists() else {}


def _parse(line: str) -> Row:
    """{} where the line is damaged or its end is missing."""
    try:
        content = json.loads(line) if line.endswith("\n") else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
