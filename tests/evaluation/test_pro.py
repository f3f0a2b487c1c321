"""PRO against a slow reference written from its definition, golden values and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffad_jax.evaluation import curve, pixels
from diffad_jax.evaluation.pro import LIMIT, region_weights
from diffad_jax.evaluation.ranking import Metric


def pro(masks: np.ndarray | None, maps: np.ndarray, limit: float = LIMIT) -> Metric:
    """As evaluation has it, from the counts of all photos."""
    counts = pixels.count(masks, maps, ["a kind"] * len(maps), 64)
    if isinstance(counts, str):
        return Metric(None, counts)
    if limit == LIMIT:
        return counts.metrics()["pixel_pro"]
    return Metric(float(curve.partial_area(counts.curves()[1], limit)), counts.seen.chance())


def regions(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """The pixels of each 8-connected region, by flood fill."""
    left, found = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        region, todo = [], [left.pop()]
        while todo:
            y, x = todo.pop()
            region.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo += near
        found.append(region)
    return found


def slow_pro(masks: np.ndarray, maps: np.ndarray, limit: float) -> float:
    """The trapezoids between all distinct thresholds, the last one cut at the limit."""
    shapes = [(i, region) for i, mask in enumerate(masks) for region in regions(mask)]
    area, last_rate, last_overlap = 0.0, 0.0, 0.0
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        found = maps >= threshold
        rate = (found & ~masks).sum() / (~masks).sum()
        overlap = np.mean([np.mean([found[i][p] for p in region]) for i, region in shapes])
        if rate >= limit:
            share = (limit - last_rate) / (rate - last_rate) if rate > last_rate else 0.0
            at_limit = last_overlap + share * (overlap - last_overlap)
            return (area + (limit - last_rate) * (last_overlap + at_limit) / 2) / limit
        area += (rate - last_rate) * (last_overlap + overlap) / 2
        last_rate, last_overlap = rate, overlap
    raise AssertionError("the lowest threshold reports every pixel")


def random_pixels(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = rng.random((2, 6, 7)) > 0.75
    masks[0, 0, :2] = True, False
    maps = np.round((rng.random(masks.shape) + 0.4 * masks) * levels) / levels
    return masks, maps.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 4, 12, 10**6]), st.sampled_from([0.05, 0.3, 1.0]))
def test_equals_the_definition(seed, levels, limit):
    masks, maps = random_pixels(seed, levels)
    assert pro(masks, maps, limit).value == pytest.approx(slow_pro(masks, maps, limit), abs=1e-12)


def test_golden_value():
    # By hand: 10 normal pixels; regions of 1 and 3 pixels. Found in turn: the single pixel and one
    # of the three (overlap 2/3 at rate 0), a normal pixel (rate 0.1), the other two (overlap 1).
    masks = np.zeros((1, 2, 7), bool)
    masks[0, 0, 0] = True
    masks[0, 0, 4:7] = True
    maps = np.zeros((1, 2, 7))
    maps[0, 0, [0, 4]], maps[0, 1, 0], maps[0, 0, [5, 6]] = 0.9, 0.8, 0.7
    expected = (0.1 * 2 / 3 + 0.2 * 1.0) / 0.3
    assert pro(masks, maps).value == pytest.approx(expected, abs=1e-12)


def golden_pixels(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Four photos, one of them normal, with overlapping squares as defects and with ties."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((4, 32, 32), bool)
    for mask in masks[1:]:
        for y, x, height, width in rng.integers(1, 20, (4, 4)):
            mask[y : y + height // 2 + 1, x : x + width // 2 + 1] ^= True
    scores = rng.integers(0, 3 * levels, masks.shape) + levels * masks
    return masks, (scores / (4 * levels)).astype(np.float32)


# By the public MVTec AD evaluation code on golden_pixels: compute_pro of pro_curve_util.py and
# trapezoid of generic_util.py, over the limit. It keeps rates in float32.
MVTEC = {
    (0, 2): {0.05: 0.3214853847272105, 0.3: 0.44960722067227393, 1.0: 0.7565285646763542},
    (1, 7): {0.05: 0.30918644177012267, 0.3: 0.42835995003506555, 1.0: 0.7455883280201552},
    (2, 50): {0.05: 0.3990960970245037, 0.3: 0.5075613770577109, 1.0: 0.7936310571742912},
    (3, 10**6): {0.05: 0.4012505697811025, 0.3: 0.5331515184187791, 1.0: 0.8019986338593598},
}


@pytest.mark.parametrize(("case", "values"), MVTEC.items())
def test_equals_the_public_mvtec_code(case, values):
    masks, maps = golden_pixels(*case)
    for limit, value in values.items():
        assert pro(masks, maps, limit).value == pytest.approx(value, abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.3, 1.0]))
def test_perfect_and_perfectly_wrong(seed, limit):
    masks, _ = random_pixels(seed, 1)
    assert pro(masks, masks.astype(np.float32), limit).value == pytest.approx(1.0, abs=1e-12)
    assert pro(masks, 1.0 - masks, limit).value == 0.0


def test_a_constant_map_is_chance_and_says_so():
    masks, maps = random_pixels(0, 1)
    metric = pro(masks, np.full_like(maps, 0.4))
    assert metric.value == pytest.approx(0.15, abs=1e-12)
    assert metric.reason == "all pixels have the same score"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_monotone_transforms_do_not_matter(seed):
    masks, maps = random_pixels(seed, 12)
    transformed = np.exp(maps.astype(np.float64)) - 7.0
    assert pro(masks, transformed).value == pytest.approx(pro(masks, maps).value, abs=1e-12)


def test_regions_touch_at_corners_and_end_with_the_photo():
    masks = np.zeros((2, 3, 3), bool)
    masks[0, 0, 0] = masks[0, 1, 1] = True  # one region by its corner
    masks[1, 1, 1] = masks[1, 1, 2] = True  # another, although it lies behind the first
    np.testing.assert_array_equal(region_weights(masks), [0.5, 0.5, 0.5, 0.5])
    masks[1, 1, 2] = False
    np.testing.assert_array_equal(region_weights(masks), [0.5, 0.5, 1.0])


@pytest.mark.parametrize(
    ("masks", "maps", "reason"),
    [
        (None, np.zeros((1, 2, 2)), "defect photos have no ground-truth masks"),
        (np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2)), "there are no anomalous pixels"),
        (
            np.array([[[True, False]]]),
            np.array([[[np.inf, 0.0]]]),
            "1 of 2 pixels have a score that is not finite",
        ),
    ],
)
def test_undefined_is_none_with_a_reason(masks, maps, reason):
    assert pro(masks, maps) == Metric(None, reason)
