"""Scores photos with the model in this folder, and says which are anomalous.

    python run.py PHOTO_OR_FOLDER ...

A line for each photo: its file, its score, and whether the score is above the model's threshold.
With --output the folder gets the same as predictions.csv, an overlay of each photo, and
predictions.jsonl, which lists the regions above the pixel threshold: box, area, peak.
Files of [height, width, 3] uint8 RGB pixels (.npy) are taken as well, and need no Pillow.
"""

import argparse
import contextlib
import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

try:
    import numpy as np
except ImportError as missing:
    sys.exit(f"error: {missing}: see README.md beside this file")

from diffad_jax.export import artifact
from diffad_jax.inference import regions
from diffad_jax.runtime import cells, regular

_TABLE, _LINES = "predictions.csv", "predictions.jsonl"
_VERDICTS = {True: "anomalous", False: "normal", None: "no threshold"}


class Scored(NamedTuple):
    """The model's result for one photo."""

    file: Path
    shown: Path  # below the folder that was named, where one was
    error: str  # why there is no score; else empty
    score: float = float("nan")
    is_anomalous: bool | None = None  # None: the model has no threshold
    anomaly_map: np.ndarray | None = None  # [height, width] float32
    photo: np.ndarray | None = None  # [h, w, 3] uint8, as large as the file holds it


def find(places: Iterable[Path]) -> list[tuple[Path, Path]]:
    """The named photos and those below named folders, each with its path below the folder.

    Raises:
      ArtifactError: there is no such file or folder, or a folder without a photo.
    """
    found = []
    for place in places:
        if place.is_file():
            found.append((place, Path(place.name)))
            continue
        if not place.is_dir():
            raise artifact.ArtifactError(f"{place} is not there: name photos or folders of photos")
        below = _photos(place)
        if not below:
            raise artifact.ArtifactError(f"no photo in {place}: name a folder of images")
        found += [(path, path.relative_to(place)) for path in below]
    return found


def score(detect: artifact.Detect, card: dict, files: Iterable[tuple[Path, Path]], seed: int
          ) -> Iterator[Scored]:  # fmt: skip
    """The model's result for each photo, one by one."""
    rules, threshold = card["preprocessing"], card["threshold"]
    for file, shown in files:
        try:
            photo, pixels = _pixels(file, rules)
        except (OSError, ValueError) as error:  # a BadImage is one
            yield Scored(file, shown, str(error))
            continue
        found = detect(pixels[None], seed)
        value = float(found["score"][0])
        if not np.isfinite(value):
            raise artifact.ArtifactError(
                f"the score of {file} is {value}, so the model is broken, or its runtime computes "
                "wrongly here: export it again, or in another --format"
            )
        anomalous = value > threshold["value"] if threshold else None
        yield Scored(file, shown, "", value, anomalous, found["anomaly_map"][0], photo)


def main(folder: Path, load: Callable[[Path, dict], artifact.Detect]) -> None:
    """The command line of an exported folder; ``load`` loads its graph."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="+", type=Path, help="files or folders of photos")
    parser.add_argument("--output", type=Path, help="a folder, for the table and for overlays")
    parser.add_argument("--overwrite", action="store_true", help="replace results in --output")
    parser.add_argument("--seed", type=int, help="of what is drawn; default: the model's")
    arguments = parser.parse_args()
    try:
        card = artifact.read_card(folder)
        files = find(arguments.photos)
        if arguments.output is not None:
            _check_output(arguments.output, files, arguments.overwrite)
        detect = artifact.start(load, folder, card)
        seed = artifact.seed(card, arguments.seed)
        found = score(detect, card, files, seed)
        counts = _write(found, card, arguments.output, arguments.overwrite)
        limit = f"; threshold {card['threshold']['value']:.6g}" if card["threshold"] else ""
        print(", ".join(f"{n} {name}" for name, n in counts.items()) + limit, file=sys.stderr)
    except BrokenPipeError:  # such as | head, which reads no more
        nowhere = os.open(os.devnull, os.O_WRONLY)  # Python's own flush at the exit would fail too
        os.dup2(nowhere, sys.stdout.fileno())
        sys.exit(0)
    except ImportError as error:  # Pillow
        sys.exit(f"error: {error}: pip install {' '.join(card['runtime'])}")
    except (artifact.ArtifactError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.exit(1 if counts.get("unreadable") else 0)


def _write(
    results: Iterable[Scored], card: dict, output: Path | None, overwrite: bool
) -> dict[str, int]:
    """Writes the tables and the overlays; gives the number of photos of each verdict."""
    counts: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        table = stack.enter_context(_open_table(output, overwrite))
        lines = output and stack.enter_context(_begin(output / _LINES, overwrite))
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["file", "score", "is_anomalous", "verdict"])
        for found in results:
            verdict = "unreadable" if found.error else _VERDICTS[found.is_anomalous]
            counts[verdict] = counts.get(verdict, 0) + 1
            rows.writerow(cells.plain(_row(found, verdict)))
            if output is None:
                continue
            lines.write(json.dumps(_in_full(found, card)) + "\n")
            if not found.error and not _holds_pixels(found.file):
                _write_overlay(_overlay(output, found.shown), found, card)
    return counts


def _row(found: Scored, verdict: str) -> list[object]:
    if found.error:
        return [found.file, "", "", f"{verdict}: {found.error}"]
    flag = "" if found.is_anomalous is None else int(found.is_anomalous)
    return [found.file, f"{found.score:.6f}", flag, verdict]


def _in_full(found: Scored, card: dict) -> dict[str, object]:
    """A line of predictions.jsonl, in pixels of the photo."""
    if found.error:
        return {"file": str(found.file), "score": None, "is_anomalous": None, "error": found.error}
    height, width = found.photo.shape[:2]
    pixel_threshold = _value(card["pixel_threshold"])
    listed = regions.find(found.anomaly_map, pixel_threshold, (width, height))
    return {
        "file": str(found.file), "score": found.score, "is_anomalous": found.is_anomalous,
        "threshold": _value(card["threshold"]), "pixel_threshold": pixel_threshold, "error": None,
        "width": width, "height": height, "num_regions": len(listed),
        "regions": [region._asdict() for region in listed[: regions.MOST_LISTED]],
    }  # fmt: skip


def _check_output(output: Path, files: Iterable[tuple[Path, Path]], overwrite: bool) -> None:
    """Raises ArtifactError where a result would replace a file, or another photo's result."""
    planned = [_overlay(output, shown) for file, shown in files if not _holds_pixels(file)]
    if twice := [path for path, n in Counter(planned).items() if n > 1]:
        raise artifact.ArtifactError(
            f"{twice[0]} would be of two photos: name the folder above theirs"
        )
    there = [path for path in (output / _TABLE, output / _LINES, *planned) if path.exists()]
    if there and not overwrite:
        raise artifact.ArtifactError(
            f"{there[0]} is there already: choose another --output, or replace it with --overwrite"
        )


def _overlay(output: Path, shown: Path) -> Path:
    return output / shown.with_name(f"{shown.name}.overlay.png")


def _open_table(output: Path | None, overwrite: bool) -> contextlib.AbstractContextManager[TextIO]:
    if output is None:
        if hasattr(sys.stdout, "reconfigure"):  # a name may hold what the stream cannot show
            sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
        return contextlib.nullcontext(sys.stdout)
    output.mkdir(parents=True, exist_ok=True)
    return _begin(output / _TABLE, overwrite)


def _begin(path: Path, overwrite: bool) -> TextIO:
    """Raises ArtifactError where another call has begun the file since the check."""
    if overwrite:  # a new file, so that a process that still writes the old one does not touch it
        path.unlink(missing_ok=True)
    try:
        # File names may hold bytes that are no UTF-8: they pass through as they are.
        return path.open("x", encoding="utf-8", errors="surrogateescape", newline="")
    except FileExistsError:
        raise artifact.ArtifactError(
            f"{path} has been begun by another call: choose another --output"
        ) from None


def _write_overlay(path: Path, found: Scored, card: dict) -> None:
    from PIL import Image

    from diffad_jax.data import pictures

    scale = pictures.Scale(
        card["colours"]["low"], card["colours"]["high"], _value(card["pixel_threshold"])
    )
    drawn = pictures.overlay(found.photo, found.anomaly_map, scale)
    text = pictures.verdict(found.score, _value(card["threshold"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pictures.legend(drawn, text, scale)).save(path)


def _value(threshold: dict | None) -> float | None:
    return threshold["value"] if threshold else None


def _decoded(file: Path, rules: dict) -> np.ndarray:
    """[h, w, 3] uint8."""
    from diffad_jax.data import photo

    with regular.open_regular(file) as opened:
        most = rules["photo_mib"]
        return photo.decode(opened, photo.Rules(rules["resize"], rules["bit_depth"], most))


def _photos(folder: Path) -> list[Path]:
    """Images below a folder; nothing hidden."""
    from diffad_jax.data import photo

    files = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        known = path.suffix.lower() in photo.IMAGE_SUFFIXES or _holds_pixels(path)
        if known and not hidden and not path.is_dir():
            files.append(path)
    return files


def _holds_pixels(file: Path) -> bool:
    return file.suffix.lower() == ".npy"


def _pixels(file: Path, rules: dict) -> tuple[np.ndarray, np.ndarray]:
    """The photo, [h, w, 3] uint8, and the same at the model's size."""
    height, width = rules["size"]
    if not _holds_pixels(file):
        from diffad_jax.data import photo

        decoded = _decoded(file, rules)
        return decoded, photo.resized(decoded, (height, width), rules["resize"])
    with regular.open_regular(file, height * width * 3 + 2**16) as opened:
        # np.load would raise anything for a file that is empty, or another kind of NumPy's.
        pixels = np.lib.format.read_array(opened, allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.shape != (height, width, 3):
        raise ValueError(f"holds {pixels.dtype} {pixels.shape}, not uint8 [{height}, {width}, 3]")
    return pixels, pixels
