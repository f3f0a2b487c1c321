"""AUPIMO against a slow reference written from its definition, and its properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffad_jax.evaluation import pimo, pixels
from diffad_jax.evaluation.ranking import Metric

BOUNDS = (0.05, 0.4)  # wide enough for a few small maps


def aupimo(masks, maps, bounds=pimo.BOUNDS, memory_mib=64, labels=None):
    if labels is None:
        labels = np.zeros(len(maps), bool) if masks is None else masks.any(axis=(1, 2))
    kinds = ["a kind" if label else "good" for label in labels]
    counts = pixels.count(masks, maps, kinds, memory_mib)
    return pimo.aupimo(counts, labels, masks, maps, bounds)


def slow_aupimo(masks: np.ndarray, maps: np.ndarray, low: float, high: float) -> list[float]:
    """For each allowed number of false positives: the best threshold, and what it finds."""
    normal = maps[~masks.any(axis=(1, 2))].ravel()
    thresholds = [*sorted(set(maps.ravel().tolist())), math.inf]
    values = []
    for mask, scores in zip(masks, maps, strict=True):
        if not mask.any():
            continue
        area = 0.0
        for allowed in range(normal.size + 1):
            start, end = allowed / normal.size, (allowed + 1) / normal.size
            start, end = max(start, low), min(end, high)
            if start < end:
                best = next(t for t in thresholds if np.sum(normal >= t) <= allowed)
                area += math.log(end / start) * np.mean(scores[mask] >= best)
        values.append(area / math.log(high / low))
    return values


def random_pixels(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Two normal and three anomalous maps, mixed."""
    rng = np.random.default_rng(seed)
    masks = rng.random((5, 4, 5)) > 0.7
    masks[:, 0, 0] = True
    masks[[1, 4]] = False
    maps = np.round((rng.random(masks.shape) + 0.5 * masks) * levels) / levels
    return masks, maps.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 10, 10**6]))
def test_equals_the_definition(seed, levels):
    masks, maps = random_pixels(seed, levels)
    mean, values = aupimo(masks, maps, BOUNDS)
    expected = slow_aupimo(masks, maps, *BOUNDS)
    assert [v for v in values if v is not None] == pytest.approx(expected, abs=1e-12)
    assert mean.value == pytest.approx(np.mean(expected), abs=1e-12)
    assert values[1] is None and values[4] is None


def test_golden_value():
    # By hand: of 10 normal pixels one scores 0.8, so 0.9 is found at every rate and 0.7 from a
    # rate of 0.1 on, the middle of [0.01, 1] by logarithm: the mean of 1 and 1/2.
    masks = np.zeros((2, 2, 5), bool)
    masks[0, 0, :2] = True
    maps = np.zeros((2, 2, 5))
    maps[0, 0, :2], maps[1, 0, 0] = (0.9, 0.7), 0.8
    mean, values = aupimo(masks, maps, (0.01, 1.0))
    assert mean.value == pytest.approx(0.75, abs=1e-12) and values == [mean.value, None]
    assert mean.reason == "10 normal pixels cannot show a false-positive rate of 0.01"


def test_perfect_constant_and_perfectly_wrong():
    masks, maps = random_pixels(0, 10)
    assert aupimo(masks, masks.astype(np.float32), BOUNDS)[0] == Metric(1.0)
    assert aupimo(masks, 1.0 - masks, BOUNDS)[0] == Metric(0.0)
    constant, _ = aupimo(masks, np.zeros_like(maps), BOUNDS)
    assert constant == Metric(0.0, "all pixels have the same score")


def test_normal_pixels_of_anomalous_images_do_not_matter():
    masks, maps = random_pixels(1, 10)
    beside = ~masks & masks.any(axis=(1, 2), keepdims=True)
    assert aupimo(masks, np.where(beside, 9.0, maps), BOUNDS) == aupimo(masks, maps, BOUNDS)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_monotone_transforms_do_not_matter(seed):
    masks, maps = random_pixels(seed, 12)
    transformed = np.exp(maps.astype(np.float64)) - 7.0
    assert aupimo(masks, transformed, BOUNDS) == aupimo(masks, maps, BOUNDS)


def test_undefined_is_none_with_a_reason():
    masks, maps = random_pixels(0, 10)
    none = [None] * 5
    assert aupimo(None, maps) == (Metric(None, "defect photos have no ground-truth masks"), none)
    no_defects = Metric(None, "there are no anomalous pixels")
    assert aupimo(np.zeros_like(masks), maps) == (no_defects, none)
    no_normal = Metric(None, "there are no normal photos to take false positives from")
    assert aupimo(masks[[0, 2]], maps[[0, 2]]) == (no_normal, [None, None])
    maps[0, 0, 0] = np.nan
    broken = Metric(None, "1 of 100 pixels have a score that is not finite")
    assert aupimo(masks, maps) == (broken, none)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([6, 10**6]))
def test_where_levels_are_left_out_the_exact_value_lies_within_the_bounds(seed, levels):
    masks, maps = random_pixels(seed, levels)
    exact, _ = aupimo(masks, maps, BOUNDS)
    metric, _ = aupimo(masks, maps, BOUNDS, memory_mib=0)
    assert "from 2 levels" in metric.reason
    low, high = map(float, metric.reason.partition("[")[2].partition("]")[0].split(","))
    assert low - 1e-9 <= exact.value <= high + 1e-9
    assert low == pytest.approx(metric.value, abs=1e-9)


def test_an_anomalous_photo_with_an_empty_mask_is_neither_normal_nor_anomalous():
    masks, maps = random_pixels(3, 10**6)
    without = aupimo(masks, maps, BOUNDS)
    more = np.concatenate([masks, np.zeros_like(masks[:1])])
    brighter = np.concatenate([maps, np.full_like(maps[:1], 9.0)])
    labels = np.append(masks.any(axis=(1, 2)), True)
    mean, values = aupimo(more, brighter, BOUNDS, labels=labels)
    assert mean.value == pytest.approx(without[0].value, abs=1e-12)
    assert values == [*without[1], None]


def test_masks_that_are_all_empty_have_no_overlap():
    masks, maps = random_pixels(3, 10**6)
    masks[:] = False
    masks[0, 0, 0] = True  # of another photo, which is said to be good
    mean, values = aupimo(masks, maps, BOUNDS, labels=np.arange(5) > 2)
    assert mean == Metric(None, "the masks of all anomalous photos are empty")
    assert values == [None] * 5
