"""Draws the README's picture: photos, their heat maps, and their outlined verdicts.

    python -m benchmarks.readme_picture --workdir=runs/demo --output=docs/images/demo.png \
      runs/toy_data/toy/test/scratch/002.png runs/toy_data/toy/test/stain/001.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import diffad_jax
from diffad_jax.data import pictures

_SIDE, _GAP = 256, 8  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="+", type=Path, help="one a row")
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    detector = diffad_jax.load(args.workdir)
    rows = [_row(detector, path) for path in args.photos]
    height = max(tile.shape[0] for row in rows for tile in row)
    drawn = np.concatenate([np.concatenate([_padded(t, height) for t in row], 1) for row in rows])
    Image.fromarray(drawn).save(args.output, optimize=True)


def _row(detector: "diffad_jax.Detector", path: Path) -> list[np.ndarray]:
    """The photo, its map's colours with their legend, and the photo with its regions outlined."""
    with Image.open(path) as image:
        photo = np.asarray(image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    found = detector.predict(photo)
    colours = pictures.heat_map(found.anomaly_map, detector.scale)
    return [
        photo,
        np.asarray(Image.fromarray(colours).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)),
        detector.draw(photo, found),
    ]


def _padded(tile: np.ndarray, height: int) -> np.ndarray:
    """White below and to the right of it."""
    below = height - tile.shape[0] + _GAP
    return np.pad(tile, ((0, below), (0, _GAP), (0, 0)), constant_values=255)


if __name__ == "__main__":
    main()
