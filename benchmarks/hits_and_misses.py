"""A picture of what a trained detector hits and misses that shows no photo, fit to be published.

    python -m benchmarks.hits_and_misses --config=configs/mvtec_small.py:bottle \
      --workdir=runs/small --config.data.root=data/mvtec --output=bottle.png

Defects, then normal photos, by score: the best, the median and the worst of each. A tile is an
anomaly map, coloured as in the reports, with the ground truth outlined in white.
"""

from pathlib import Path

import ml_collections
import numpy as np
from absl import flags
from ml_collections import config_flags
from PIL import Image, ImageFilter

from benchmarks import last_line
from diffad_jax.data import images, layouts, masks, pictures
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import check_config

_SIDE = 160  # pixels of a shown map
_COUNT = 2  # of the best, the median and the worst of either class


def main(argv: list[str]) -> None:
    del argv
    config, workdir = flags.FLAGS.config, Path(flags.FLAGS.workdir)
    check_config(config)
    (category,) = config.categories
    detector = Detector.from_workdir(config, workdir, category)
    found = load_or_choose(config, workdir, category, detector)
    output = Path(flags.FLAGS.output)
    last_line.finish(draw(detector, category, found.threshold, found.scale, output))


def draw(
    detector: Detector,
    category: str,
    limit: float | None,
    scale: pictures.Scale,
    output: Path,
) -> dict:
    """Writes the picture; returns the files that it shows, by class, best to worst.

    ``limit`` is the threshold, ``scale`` that of the maps.
    """
    config = detector.config
    records = layouts.read_category(config.data.root, category, config.data.layout)
    records = [r for r in records if r.split == "test"]
    rules = images.rules(config.data)
    mask_set, _ = masks.survey([r.mask for r in records if r.mask], rules)
    photos = [images.read_image(r.file, config.image_size, rules) for r in records]
    found = detector.predict_all(np.stack(photos), config.evaluation.batch_size)
    labels = np.array([r.is_anomalous for r in records])
    rows, shown = [], {}
    ranks = [rank for rank in ("best", "median", "worst") for _ in range(_COUNT)]
    cases = pictures.pick_cases(labels, found.score, _COUNT)
    for kind in ("defect", "normal"):
        chosen = [i for what, i in cases if what.endswith(kind)]
        scores = ", ".join(f"{found.score[i]:.2f}" for i in chosen)
        tiles = [_tile(found.anomaly_map[i], records[i], scale, mask_set, config) for i in chosen]
        rows.append(pictures.Row(f"{category}, {kind}, scores {scores}{_threshold(limit)}", tiles))
        shown[kind] = [records[i].file for i in chosen]
    pictures.contact_sheet(output, ranks, rows)
    return shown


def _threshold(limit: float | None) -> str:
    return "" if limit is None else f" (threshold {limit:.2f})"


def _tile(
    anomaly_map: np.ndarray,
    record: layouts.Record,
    scale: pictures.Scale,
    mask_set: masks.MaskSet,
    config: ml_collections.FrozenConfigDict,
) -> np.ndarray:
    coloured = Image.fromarray(pictures.heat_map(anomaly_map, scale))
    shown = np.array(coloured.resize((_SIDE, _SIDE), Image.Resampling.NEAREST))
    if record.mask is not None:
        mask = mask_set.read(record.mask, _SIDE, config.evaluation.mask_rule)
        grown = Image.fromarray(255 * mask).filter(ImageFilter.MaxFilter(3))
        shown[(np.asarray(grown) > 0) & (mask == 0)] = 255
    return shown


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "FILE:CATEGORY, as for training.")
    flags.DEFINE_string("workdir", None, "Where it was trained.")
    flags.DEFINE_string("output", None, "The PNG to write.")
    flags.mark_flags_as_required(["config", "workdir", "output"])
    last_line.run(main)
