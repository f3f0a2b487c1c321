"""Drawn curves against the metrics that they stand for."""

import numpy as np
import pytest
from plain_pixels import pixel_metrics, pro

from diffad_jax.evaluation import curve, curve_points
from diffad_jax.evaluation.pro import LIMIT, region_weights
from diffad_jax.evaluation.ranking import image_metrics


def area(points):
    return np.trapezoid(points.y, points.x)


def photos(seed=0, n=40, levels=9):
    """Scores with many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.4
    return labels, np.round(levels * (0.5 * labels + rng.random(n))) / levels


def maps(side=64, n=6):
    rng = np.random.default_rng(1)
    masks = np.zeros((n, side, side), bool)
    masks[2:, 5:20, 8:30] = masks[3:, 40:45, 40:60] = True
    return masks, (0.3 * masks + rng.random(masks.shape)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_areas_are_the_metrics(seed):
    labels, scores = photos(seed)
    found = image_metrics(labels, scores)
    c = curve.exact(labels, scores)
    assert area(curve_points.roc(c)) == pytest.approx(found["image_auroc"].value, abs=1e-12)
    stairs = curve_points.precision_recall(c)
    assert (stairs.x[-1], stairs.y[-1]) == (1.0, labels.mean())
    assert area(stairs) == pytest.approx(found["image_ap"].value, abs=1e-12)


def test_thinned_lines_keep_their_ends_and_areas():
    masks, values = maps()
    c = curve.exact(masks, values)
    regions = curve.exact(masks, values, region_weights(masks))
    found = pixel_metrics(masks, values)
    cases = (
        (curve_points.roc(c), 1, found["pixel_auroc"].value),
        (curve_points.precision_recall(c), 1, found["pixel_ap"].value),
        (
            curve_points.up_to(curve_points.roc(regions), LIMIT),
            LIMIT,
            LIMIT * pro(masks, values).value,
        ),
    )
    for points, end, expected in cases:
        assert area(points) == pytest.approx(expected, abs=1e-9)
        drawn = curve_points.thinned(points)
        assert 100 < len(drawn.x) <= curve_points.NUM_DRAWN
        assert (drawn.x[0], drawn.x[-1]) == (0, end) and (np.diff(drawn.x) >= 0).all()
        assert area(drawn) == pytest.approx(expected, abs=2e-3)


def test_few_points_are_all_kept():
    points = curve_points.Points(np.linspace(0, 1, 50), np.linspace(0, 1, 50) ** 2)
    assert curve_points.thinned(points, 50) is points
    assert len(curve_points.thinned(points, 49).x) <= 49
