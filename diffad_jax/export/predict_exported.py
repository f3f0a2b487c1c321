"""Scores photos with an exported model; needs nothing but its format's runtime and Pillow.

    python -m diffad_jax.export.predict_exported MODEL FOLDER

prints file, score, is_anomalous and error of each photo as CSV. With ``--output=DIR`` the table
becomes ``DIR/predictions.csv``, and beside it lies each photo with the anomaly map over it.
"""

import argparse
import contextlib
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image

from diffad_jax.data import photo, pictures
from diffad_jax.export import artifact, runtimes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="an exported folder")
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--output", type=Path, help="a folder, for a table and overlays")
    parser.add_argument("--seed", type=int, help="of the sampling noise; default: the model's")
    args = parser.parse_args()
    try:
        failures = _predict(args)
    except artifact.ArtifactError as error:
        sys.exit(f"error: {error}")
    if failures:
        sys.exit(f"error: {failures} photos could not be read")


def _predict(args: argparse.Namespace) -> int:
    """How many photos could not be read."""
    card = artifact.read_card(args.model)
    files = sorted(_photos(args.photos))
    if not files:
        raise artifact.ArtifactError(f"no photo in {args.photos}: name a folder of images")
    detect = runtimes.load(args.model, card)
    seed = card["seed"] if args.seed is None else args.seed & 0xFFFFFFFF  # as JAX takes it
    rules, limit, failures = card["preprocessing"], card["threshold"], 0
    colours = card["colours"]["black"], card["colours"]["yellow"]
    with _table(args.output) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "score", "is_anomalous", "error"])
        for path in files:
            try:
                original = photo.decode(path.read_bytes())
            except (OSError, photo.BadImage) as error:
                rows.writerow([path, "", "", f"{path} {error}"])
                failures += 1
                continue
            pixels = photo.resized(original, rules["side"], rules["resize"])
            found = detect(pixels[None], seed)
            score = float(found["score"][0])
            rows.writerow([path, f"{score:.6f}", int(score > limit["value"]) if limit else "", ""])
            if args.output:
                shown = path.relative_to(args.photos).with_name(f"{path.name}.overlay.png")
                _write_overlay(args.output / shown, original, found["anomaly_map"][0], colours)
    return failures


def _table(output: Path | None) -> contextlib.AbstractContextManager[TextIO]:
    if output is None:
        return contextlib.nullcontext(sys.stdout)
    output.mkdir(parents=True, exist_ok=True)
    return (output / "predictions.csv").open("w", encoding="utf-8", newline="")


def _photos(folder: Path) -> Iterator[Path]:
    """Images below a folder; nothing hidden."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in photo.IMAGE_SUFFIXES and not hidden:
            yield path


def _write_overlay(
    path: Path, original: np.ndarray, anomaly_map: np.ndarray, colours: tuple[float, float]
) -> None:
    size = original.shape[1], original.shape[0]
    resized = Image.fromarray(anomaly_map).resize(size, Image.Resampling.BILINEAR)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pictures.overlay(original, np.asarray(resized), colours)).save(path)


if __name__ == "__main__":
    main()
