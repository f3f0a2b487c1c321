"""Scores a folder of photos; needs no TensorFlow."""

import csv
import sys
from pathlib import Path

import ml_collections
import numpy as np
from PIL import Image

from diffad_jax import threshold
from diffad_jax.data import images
from diffad_jax.data.layouts import DataError
from diffad_jax.detector import Detector
from diffad_jax.evaluation import pictures


def predict_folder(
    config: ml_collections.ConfigDict, workdir: Path, source: Path, output: Path
) -> None:
    """Writes ``predictions.csv`` (file, score, is_anomalous) and an overlay PNG for each photo.

    Unreadable photos are listed at the end and in the CSV, with empty fields and the reason.

    Raises:
      layouts.DataError: ``source`` holds no photo, or several categories are configured.
      images.ImageError: at the end, where photos could not be read.
    """
    if len(config.categories) != 1:
        raise DataError(
            "predict needs one category, to know whose detector to use: "
            f"--config.categories={config.categories[0]}"
        )
    files = images.find_images(source)
    if not files:
        raise DataError(f"no photo in {source}: --input must be a folder of images")
    category = config.categories[0]
    detector = Detector.from_workdir(config, workdir, category)
    limit = threshold.load_or_choose(config, workdir, category, detector)
    limits = threshold.load_map_range(config, workdir, category, detector)
    output.mkdir(parents=True, exist_ok=True)
    failures = []
    with (output / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "score", "is_anomalous", "overlay", "error"])
        for path in files:
            try:
                photo = images.read_image(path, config.image_size, config.data.resize)
            except images.ImageError as error:
                failures.append(str(error))
                table.writerow([path, "", "", "", str(error)])
                continue
            predicted = detector.predict_all(photo[None], 1)
            score = float(predicted.score[0])
            verdict = "" if limit is None else int(score > limit.value)
            shown = overlay_path(Path(path), source, output)
            _write_overlay(shown, Path(path), predicted.anomaly_map[0], limits)
            table.writerow([path, f"{score:.6f}", verdict, shown.relative_to(output), ""])
    print(f"{len(files) - len(failures)} photos scored: {output / 'predictions.csv'}")
    if limit is None:
        print("no verdicts: no normal photo was held out to choose a threshold", file=sys.stderr)
    if failures:
        raise images.ImageError(
            f"{len(failures)} of {len(files)} photos could not be read:\n  " + "\n  ".join(failures)
        )


def overlay_path(photo: Path, source: Path, output: Path) -> Path:
    """Where a photo's overlay goes: the same place below ``output``; the suffix is kept inside the
    name, so that a.png and a.jpg do not meet."""
    below = photo.relative_to(source)
    return output / below.with_name(f"{below.name}.overlay.png")


def _write_overlay(
    path: Path, photo: Path, anomaly_map: np.ndarray, limits: tuple[float, float]
) -> None:
    """At the photo's own size, so that the map's place is the defect's place."""
    original = images.read_image(photo, None, "antialias")
    size = original.shape[1], original.shape[0]
    resized = Image.fromarray(anomaly_map).resize(size, Image.Resampling.BILINEAR)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pictures.overlay(original, np.asarray(resized), limits)).save(path)
