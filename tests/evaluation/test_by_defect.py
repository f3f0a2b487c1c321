"""Metrics of each defect type."""

import numpy as np
import pytest
from plain_pixels import pixel_metrics

from diffad_jax.evaluation import by_defect, pixels
from diffad_jax.evaluation.ranking import image_metrics

TYPES = ("good", "scratch", "good", "dent", "scratch")
LABELS = np.array([False, True, False, True, True])


def metrics_by_defect(types, labels, scores, masks, maps):
    kinds = [kind if label else "" for kind, label in zip(types, labels, strict=True)]
    counts = pixels.count(masks, maps, kinds, memory_mib=64)
    return by_defect.metrics_by_defect(types, labels, scores, counts)


def scored_pixels() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    masks = (rng.random((5, 4, 4)) > 0.5) & LABELS[:, None, None]
    return masks, rng.random((5, 4, 4))


def test_each_type_stands_against_all_good_photos():
    masks, maps = scored_pixels()
    scores = np.array([0.1, 0.2, 0.5, 0.9, 0.6])
    metrics = metrics_by_defect(TYPES, LABELS, scores, masks, maps)
    assert list(metrics) == ["dent", "scratch"]
    for name, chosen in (("dent", [0, 2, 3]), ("scratch", [0, 1, 2, 4])):
        alone = image_metrics(LABELS[chosen], scores[chosen])
        alone |= pixel_metrics(masks[chosen], maps[chosen])
        assert {n: f.value for n, f in metrics[name].items()} == pytest.approx(
            {n: f.value for n, f in alone.items()}, abs=1e-12
        )
    # By hand: the dent scores above both good photos; of the 4 pairs of scratches 3 are in order.
    assert metrics["dent"]["image_auroc"].value == 1.0
    assert metrics["scratch"]["image_auroc"].value == 0.75


def test_without_masks_or_defects():
    _, maps = scored_pixels()
    scores = np.linspace(0, 1, 5)
    without = metrics_by_defect(TYPES, LABELS, scores, None, maps)
    assert without["dent"]["pixel_ap"].reason == "defect photos have no ground-truth masks"
    assert without["dent"]["image_ap"].value is not None
    assert metrics_by_defect(("good",) * 5, np.zeros(5, bool), scores, None, maps) == {}


def test_without_good_photos():
    masks, maps = scored_pixels()
    metrics = metrics_by_defect(TYPES[3:], LABELS[3:], np.ones(2), masks[3:], maps[3:])
    assert metrics["dent"]["image_auroc"].reason == "there are no normal test photos"
    assert metrics["dent"]["pixel_auroc"].value is not None
