"""Pixels counted photo by photo: exact metrics equal scikit-learn's, others keep their bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_pixels import pixel_f1_max, pixel_metrics, pro
from sklearn.metrics import average_precision_score, roc_auc_score

from diffad_jax.evaluation import curve, pixels

LEVELS = st.sampled_from([1, 3, 20, 10**6])


def random_pixels(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks and maps [5, 6, 6] with both classes and about ``levels`` distinct scores in [0, 1]."""
    rng = np.random.default_rng(seed)
    masks = rng.random((5, 6, 6)) > 0.6
    masks[3] = False
    maps = np.round((rng.random(masks.shape) + 0.3 * masks) / 1.3 * levels) / levels
    return masks, maps.astype(np.float32)


def counted(masks, maps, kinds=None, most=10**6):
    """With at most so many levels."""
    memory_mib = 64 if most > 2 else 0
    counts = pixels.count(masks, maps, kinds or ["a kind"] * len(maps), memory_mib)
    assert isinstance(counts, pixels.Counts)
    return counts


def values(metrics) -> dict[str, float]:
    return {name: metric.value for name, metric in metrics.items()}


def exact_metrics(masks: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    metrics = pixel_metrics(masks, maps)
    metrics |= {"pixel_f1_max": pixel_f1_max(masks, maps)[0], "pixel_pro": pro(masks, maps)}
    return values(metrics)


@pytest.fixture
def few(monkeypatch):
    """Only so many levels may be kept, and they are merged after a few scores."""

    def limit(most):
        survey = pixels._survey
        monkeypatch.setattr(pixels, "_survey", lambda masks, maps, _: survey(masks, maps, most))
        monkeypatch.setattr(pixels, "_WAITING", 10)

    return limit


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), LEVELS)
def test_equals_scikit_learn_ties_included(seed, levels):
    masks, maps = random_pixels(seed, levels)
    labels, scores = masks.ravel(), maps.ravel()
    for metrics in (pixel_metrics(masks, maps), counted(masks, maps).metrics()):
        auroc, ap = metrics["pixel_auroc"].value, metrics["pixel_ap"].value
        assert auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert ap == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), LEVELS)
def test_photo_by_photo_equals_all_at_once(seed, levels):
    masks, maps = random_pixels(seed, levels)
    expected = exact_metrics(masks, maps)
    assert values(counted(masks, maps).metrics()) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), LEVELS, st.permutations(range(5)))
def test_neither_order_nor_groups_of_photos_matter(seed, levels, order):
    masks, maps = random_pixels(seed, levels)
    whole = counted(masks, maps).metrics()
    kinds = ["ab"[i % 2] for i in order]
    parts = counted(masks[order], maps[order], kinds)
    assert values(parts.metrics()) == pytest.approx(values(whole), abs=1e-12)
    chosen = np.array([kind == "a" for kind in kinds])
    alone = exact_metrics(masks[order][chosen], maps[order][chosen])
    assert values(parts.metrics(chosen)) == pytest.approx(alone, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), LEVELS)
def test_monotone_transforms_do_not_matter(seed, levels):
    masks, maps = random_pixels(seed, levels)
    transformed = np.exp(maps.astype(np.float64)) - 7.0
    expected = values(counted(masks, maps).metrics())
    assert values(counted(masks, transformed).metrics()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("most", [2, 3, 8, 40])
@pytest.mark.parametrize("levels", [5, 20, 10**6])
def test_the_exact_metrics_lie_within_the_bounds(most, levels, few):
    few(most)
    for seed in range(20):
        masks, maps = random_pixels(seed, levels)
        counts = counted(masks, maps)
        metrics, exact = counts.metrics(), exact_metrics(masks, maps)
        assert counts.seen.levels.size <= most
        assert counts.seen.levels[0] == maps[masks].min()
        if counts.seen.exact:
            assert values(metrics) == pytest.approx(exact, abs=1e-12)
            continue
        for name, metric in metrics.items():
            assert metric.reason.startswith(f"from {counts.seen.levels.size} levels: the exact")
            low, high = map(float, metric.reason.partition("[")[2].partition("]")[0].split(","))
            assert low - 1e-9 <= exact[name] <= high + 1e-9, name
            assert low - 1e-9 <= metric.value <= high + 1e-9, name


def test_auroc_errs_by_at_most_half_the_tied_pairs(few):
    few(4)
    for seed in range(10):
        masks, maps = random_pixels(seed, 10**6)
        counts = counted(masks, maps)
        at = np.searchsorted(counts.seen.levels, maps, side="right")
        tied_share = np.mean(at[masks][:, None] == at[~masks][None])
        error = counts.metrics()["pixel_auroc"].value - exact_metrics(masks, maps)["pixel_auroc"]
        assert abs(error) <= 0.5 * tied_share + 1e-12
        low, high = curve.auroc_bounds(counts.curves()[0])
        assert high - low == pytest.approx(tied_share, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_bounds_are_reached(seed):
    """Inside each bin the best order ties all positives on top; the worst has negatives on top."""
    masks, maps = random_pixels(seed, 10**6)
    bins = np.minimum((maps * 4).astype(int), 3)
    best = (bins + np.where(masks, 0.9, 0.1)) / 4
    spread = np.random.default_rng(seed).permutation(maps.size).reshape(maps.shape) / maps.size
    worst = (bins + np.where(masks, 0.5 * spread, 0.9)) / 4
    counts = [np.bincount(bins[m], minlength=4)[::-1] for m in (masks, ~masks)]
    c = curve.from_bins(np.arange(4)[::-1] / 4, *counts)
    low, high = exact_metrics(masks, worst), exact_metrics(masks, best)
    for name, (least, most) in {
        "pixel_auroc": curve.auroc_bounds(c),
        "pixel_ap": curve.average_precision_bounds(c),
        "pixel_f1_max": curve.f1_max_bounds(c),
    }.items():
        assert high[name] == pytest.approx(most, abs=1e-12), name
        if name != "pixel_ap":  # its lower bound is an integral below the sum
            assert low[name] == pytest.approx(least, abs=1e-12), name
    assert 0 <= low["pixel_ap"] - curve.average_precision_bounds(c)[0] < 0.01


def test_many_levels_leave_narrow_bounds(few):
    few(1000)
    rng = np.random.default_rng(0)
    masks = rng.random((4, 64, 64)) > 0.7
    maps = np.clip(rng.normal(0.3 + 0.2 * masks, 0.1), 0, 1).astype(np.float32)
    for metric in counted(masks, maps).metrics().values():
        low, high = map(float, metric.reason.partition("[")[2].partition("]")[0].split(","))
        assert 0 < high - low < 5e-3


@pytest.mark.parametrize(
    ("masks", "maps", "reason"),
    [
        (None, np.zeros((1, 2, 2)), "defect photos have no ground-truth masks"),
        (np.zeros((0, 2, 2), bool), np.zeros((0, 2, 2)), "there are no pixels"),
        (np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2)), "there are no anomalous pixels"),
        (np.ones((1, 2, 2), bool), np.zeros((1, 2, 2)), "there are no normal pixels"),
        (
            np.array([[[True, False]]]),
            np.array([[[np.nan, 0.5]]]),
            "1 of 2 pixels have a score that is not finite",
        ),
    ],
)
def test_undefined_has_a_reason(masks, maps, reason):
    assert pixels.count(masks, maps, ["a kind"] * len(maps), 64) == reason


def test_constant_maps_say_so():
    masks, maps = random_pixels(0, 1)
    metrics = counted(masks, np.full_like(maps, 0.4)).metrics()
    assert metrics["pixel_auroc"].value == 0.5
    assert {f.reason for f in metrics.values()} == {"all pixels have the same score"}


def test_area_up_to_one_is_auroc():
    masks, maps = random_pixels(3, 20)
    c = curve.exact(masks, maps)
    assert curve.partial_area(c, 1.0) == pytest.approx(curve.auroc(c), abs=1e-12)
