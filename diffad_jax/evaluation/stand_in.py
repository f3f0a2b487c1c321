"""Photos for a report without test photos: held-out normal photos, and defects drawn on them.

Drawn defects are no test. They show what the detector marks at its threshold, and how.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_collections
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from diffad_jax.config import common, fields
from diffad_jax.data import images, pictures, split
from diffad_jax.data.layouts import DataError
from diffad_jax.errors import UserError
from diffad_jax.evaluation.metrics import TestSet
from diffad_jax.evaluation.test_photos import made
from diffad_jax.inference.calibration import Calibration
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import get_method
from diffad_jax.training.held_out import load_split
from diffad_jax.types import height_width

HELD_OUT, DRAWN = "held out", "drawn defect"  # in place of types of defects
_PICTURED = 24  # held-out photos, those of the highest scores; and as many drawn defects
_TRIES = 10  # examples for a defect; few masks are empty


@dataclasses.dataclass(frozen=True)
class StandIns:
    """Photos of which those beyond the first k of n have a score alone."""

    test: TestSet  # of n; it has k photos and masks
    scores: Float64[np.ndarray, " n"]
    maps: Float32[np.ndarray, "k h w"]
    columns: Mapping[str, UInt8[np.ndarray, "k h w 3"]]  # by title
    note: str  # what they are worth, or why some are missing
    none_drawn: str = ""  # why there are no pictures and no drawn defects; empty: there are

    def describe(self, threshold: float) -> str:
        """The number of drawn defects that are found."""
        if self.none_drawn:
            return f"no test photos; no defects are drawn: {self.none_drawn}"
        found = self.scores[self.test.labels] > threshold
        return (
            f"no test photos; of {len(found)} defects drawn on held-out photos {found.sum()} are "
            "found, which says little of real ones"
        )


def run(
    config: ml_collections.ConfigDict,
    workdir: Path,
    category: str,
    detector: Detector,
    calibration: Calibration,
) -> StandIns:
    """The held-out photos by falling score, and defects on some of them, the same at each call.

    Args:
      config: the whole config.
      workdir: holds the category's split.
      category: its name.
      detector: of this category.
      calibration: of this detector; its scores are taken.
    """
    by_score = sorted(zip(calibration.held_out_scores, calibration.held_out_names, strict=True))
    if not by_score:
        return _without_pictures(config, [], np.zeros(0), calibration.why_no_threshold)
    names = [name for _, name in by_score[::-1]]
    scores = np.array([score for score, _ in by_score[::-1]])
    try:
        photos = _read(config, workdir, category, names[:_PICTURED])
        drawn, masks = _draw(config, workdir, category, names)
    except UserError as error:
        return _without_pictures(config, names, scores, str(error))
    except ImportError as error:
        why = f"pip install 'diffad_jax[data]' ({error})"
        return _without_pictures(config, names, scores, why)
    batch = np.concatenate([photos, drawn])
    predicted = detector.predict_all(batch, config.evaluation.batch_size)
    empty = np.zeros((len(photos), *masks.shape[1:]), bool)
    count = len(drawn)
    more = len(names) - len(photos)
    test = TestSet(
        files=[
            *names[: len(photos)],
            *(f"{i + 1:02}" for i in range(count)),
            *names[len(photos) :],
        ],
        defect_types=[HELD_OUT] * len(photos) + [DRAWN] * count + [HELD_OUT] * more,
        labels=np.repeat([False, True, False], [len(photos), count, more]),
        photos=batch,
        masks=np.concatenate([empty, masks]),
    )
    return StandIns(
        test=test,
        scores=np.insert(scores, len(photos), predicted.score[len(photos) :].astype(np.float64)),
        maps=predicted.anomaly_map,
        columns={t: pictures.to_bytes(m) for t, m in made(config, predicted).items()},
        note=_note(config),
    )


def _note(config: ml_collections.ConfigDict) -> str:
    seen = "; training has seen such defects, on other photos" if (
        get_method(config).needs_synthesis
    ) else ""  # fmt: skip
    return (
        "The defects are textures and shades drawn on held-out photos, at random places and with "
        f"random opacity{seen}. What is found of them says little of real defects: add photos of "
        "those to test on."
    )


def _without_pictures(
    config: ml_collections.ConfigDict, names: Sequence[str], scores: np.ndarray, why: str
) -> StandIns:
    size = height_width(config.image_size)
    test = TestSet(
        files=names,
        defect_types=[HELD_OUT] * len(names),
        labels=np.zeros(len(names), bool),
        photos=np.zeros((0, *size, 3), np.uint8),
        masks=None,
    )
    maps = np.zeros((0, *size), np.float32)
    note = f"No pictures and no drawn defects: {why}."
    return StandIns(test, scores, maps, {}, note, none_drawn=why)


def _read(
    config: ml_collections.ConfigDict, workdir: Path, category: str, names: Sequence[str]
) -> np.ndarray:
    """Held-out photos as the detector sees them: [k, h, w, 3] uint8."""
    paths = _paths(config, workdir, category, names)
    return images.read_images(paths, config.image_size, images.rules(config.data))[0]


def _paths(
    config: ml_collections.ConfigDict, workdir: Path, category: str, names: Sequence[str]
) -> list[str]:
    held_out = load_split(config, workdir / category, category).held_out
    found = split.paths(config, {name: held_out[name] for name in names})
    path_of = dict(zip(sorted(names), found, strict=True))
    return [path_of[name] for name in names]


def _draw(
    config: ml_collections.ConfigDict, workdir: Path, category: str, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Defects on evenly chosen photos: [k, h, w, 3] uint8 and masks [k, h, w] bool.

    They are training's defects, where the config says how to draw them. Elsewhere the photo stays
    as it was.
    """
    # Imported here: evaluation runs where TensorFlow is not installed.
    from diffad_jax.data import pipeline

    drawing = fields.defaults((common.EXAMPLES, common.SYNTHESIS))
    drawing.update(config)
    drawing.synthesis.update(normal_probability=0.0, rotation_probability=0.0, max_light_change=0.0)
    chosen = sorted(names)[:: -(-len(names) // _PICTURED)]
    examples = pipeline.examples(
        drawing,
        category,
        "validation",
        fields=("augmented_image", "anomaly_mask"),
        files=[_paths(config, workdir, category, chosen)],
        stage="report",
    )
    drawn = []
    for example in examples.take(_TRIES * _PICTURED).as_numpy_iterator():
        if example["anomaly_mask"].any():
            drawn.append(example)
        if len(drawn) == _PICTURED:
            break
    if not drawn:
        raise DataError("at this config.image_size no defect was drawn")
    masks = np.stack([e["anomaly_mask"][..., 0] for e in drawn]).astype(bool)
    return np.stack([e["augmented_image"] for e in drawn]), masks
