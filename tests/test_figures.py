"""All figures of a test set at once; each by itself is tested beside its own module."""

import json

import numpy as np
import pytest

from diffad_jax.evaluation import figures, metrics_file
from diffad_jax.evaluation.f1 import pixel_f1_max
from diffad_jax.evaluation.pimo import aupimo
from diffad_jax.evaluation.pro import pro
from diffad_jax.evaluation.ranking import NO_MASKS, image_figures, pixel_figures

SIDE = 12


def case(labels, masks=True):
    """(test set, scores, maps, reconstructions) with these labels."""
    labels, rng = np.array(labels, bool), np.random.default_rng(0)
    photos = rng.integers(0, 256, (len(labels), SIDE, SIDE, 3), np.uint8)
    truth = np.zeros((len(labels), SIDE, SIDE), bool)
    truth[labels, 2:6, 3:9] = True
    test = figures.TestSet(
        files=[f"{i}.png" for i in range(len(labels))],
        defect_types=[("dent", "crack")[i % 2] if a else "good" for i, a in enumerate(labels)],
        labels=labels,
        photos=photos,
        masks=truth if masks else None,
    )
    maps = (0.2 * truth + 0.8 * rng.random(truth.shape)).astype(np.float32)
    repaired = np.clip(photos / 255 + 0.1, 0, 1).astype(np.float32)
    return test, maps.mean((1, 2)).astype(np.float64), maps, repaired


def test_they_are_those_of_each_module():
    test, scores, maps, repaired = case([0, 0, 0, 1, 1, 1])
    found = figures.find(test, scores, maps, repaired, seed=0)
    expected = image_figures(test.labels, scores) | pixel_figures(test.masks, maps)
    f1, threshold = pixel_f1_max(test.masks, maps)
    overlap, of_photos = aupimo(test.masks, maps)
    expected |= {"pixel_f1_max": f1, "pixel_pro": pro(test.masks, maps), "pixel_aupimo": overlap}
    assert {name: found.figures[name] for name in expected} == expected
    assert found.f1_max_thresholds["pixel_f1_max"] == threshold
    called = maps >= threshold
    assert found.pixels.best.recall == called[test.masks].mean()
    assert found.pixels.best.precision == test.masks[called].mean()
    assert found.pixels.best.false_positive_rate == called[~test.masks].mean()
    assert found.images.points.keys() | {"pro"} == found.pixels.points.keys()
    assert found.aupimo_of_photos == of_photos
    assert list(found.by_defect) == ["crack", "dent"]
    assert found.figures["direct_copy_masked_psnr"].value < 25
    for name, (low, high) in found.intervals.items():
        assert 0 <= low.value <= high.value <= 1, name


@pytest.mark.parametrize(
    ("labels", "masks", "undefined", "reason"),
    [
        ([], True, "image_auroc", "there are no test photos"),
        ([], True, "pixel_pro", "there are no pixels"),
        ([0, 0], True, "image_ap", "there are no anomalous test photos"),
        ([1, 1], True, "image_f1_max", "there are no normal test photos"),
        ([1, 1], True, "pixel_aupimo", "there are no normal photos to take false positives from"),
        ([0, 1, 1], False, "pixel_auroc", NO_MASKS),
        ([0, 1, 1], False, "direct_copy_frame_psnr", NO_MASKS),
    ],
)
def test_what_is_undefined_says_why(labels, masks, undefined, reason):
    found = figures.find(*case(labels, masks), seed=0)
    assert found.figures[undefined].value is None
    assert found.figures[undefined].reason == reason
    assert found.images.reason or found.pixels.reason
    plain = metrics_file.plain(found.figures, metrics_file.plain_intervals(found.intervals))
    json.dumps(plain, allow_nan=False)


def test_equal_seeds_give_equal_intervals():
    of = case([0, 0, 0, 1, 1, 1])
    first, same, other = (figures.find(*of, seed=s).intervals for s in (0, 0, 1))
    assert first == same != other
