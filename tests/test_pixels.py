"""Pixel figures: the exact ones against scikit-learn, the binned ones within their bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from diffad_jax.evaluation import curve
from diffad_jax.evaluation.f1 import pixel_f1_max
from diffad_jax.evaluation.pixels import NAMES, PixelBins
from diffad_jax.evaluation.pro import pro
from diffad_jax.evaluation.ranking import Figure, pixel_figures


def random_pixels(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks and maps [3, 6, 6] with both classes and about ``levels`` distinct scores in [0, 1]."""
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 6, 6)) > 0.6
    maps = np.round((rng.random(masks.shape) + 0.3 * masks) / 1.3 * levels) / levels
    return masks, maps.astype(np.float32)


def exact_figures(masks: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    figures = pixel_figures(masks, maps)
    figures |= {"pixel_f1_max": pixel_f1_max(masks, maps)[0], "pixel_pro": pro(masks, maps)}
    return {name: figure.value for name, figure in figures.items()}


def binned(masks: np.ndarray, maps: np.ndarray, num_bins: int) -> PixelBins:
    bins = PixelBins(num_bins)
    bins.update(masks, maps)
    return bins


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 20, 10**6]))
def test_exact_equals_scikit_learn(seed, levels):
    masks, maps = random_pixels(seed, levels)
    labels, scores = masks.ravel(), maps.ravel()
    figures = pixel_figures(masks, maps)
    assert figures["pixel_auroc"].value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert figures["pixel_ap"].value == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([1, 5, 20, 10**6]), st.sampled_from([1, 2, 4, 16, 64])
)
def test_the_exact_figures_lie_within_the_bounds(seed, levels, num_bins):
    masks, maps = random_pixels(seed, levels)
    bins = binned(masks, maps, num_bins)
    figures, bounds = bins.figures(), bins.bounds()
    for name, exact in exact_figures(masks, maps).items():
        low, high = bounds[name]
        assert low - 1e-12 <= exact <= high + 1e-12, name
        assert low - 1e-12 <= figures[name].value <= high + 1e-12, name


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 4, 16]))
def test_auroc_errs_by_at_most_half_the_tied_pairs(seed, num_bins):
    masks, maps = random_pixels(seed, 10**6)
    bin_of = np.minimum((maps * num_bins).astype(int), num_bins - 1)
    tied_share = np.mean(bin_of[masks][:, None] == bin_of[~masks][None])
    bins = binned(masks, maps, num_bins)
    error = bins.figures()["pixel_auroc"].value - pixel_figures(masks, maps)["pixel_auroc"].value
    assert abs(error) <= 0.5 * tied_share + 1e-12
    low, high = bins.bounds()["pixel_auroc"]
    assert high - low == pytest.approx(tied_share, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_bounds_are_reached(seed):
    """Inside each bin the best order ties all positives on top; the worst has negatives on top."""
    masks, maps = random_pixels(seed, 10**6)
    bins = np.minimum((maps * 4).astype(int), 3)
    best = (bins + np.where(masks, 0.9, 0.1)) / 4
    spread = np.random.default_rng(seed).permutation(maps.size).reshape(maps.shape) / maps.size
    worst = (bins + np.where(masks, 0.5 * spread, 0.9)) / 4
    bounds = binned(masks, maps, 4).bounds()
    low, high = exact_figures(masks, worst), exact_figures(masks, best)
    for name in NAMES:
        assert high[name] == pytest.approx(bounds[name][1], abs=1e-12), name
        if name != "pixel_ap":  # its lower bound is an integral below the sum
            assert low[name] == pytest.approx(bounds[name][0], abs=1e-12), name
    assert 0 <= low["pixel_ap"] - bounds["pixel_ap"][0] < 0.01


@pytest.mark.parametrize("levels", [1, 7])
def test_with_a_bin_for_each_score_figures_are_exact(levels):
    masks, maps = random_pixels(0, levels)
    figures = binned(masks, maps, 1024).figures()
    values = {name: figure.value for name, figure in figures.items()}
    assert values == pytest.approx(exact_figures(masks, maps), abs=1e-12)


def test_many_bins_leave_narrow_bounds():
    rng = np.random.default_rng(0)
    masks = rng.random((4, 64, 64)) > 0.9
    maps = np.clip(rng.normal(0.3 + 0.2 * masks, 0.1), 0, 1).astype(np.float32)
    for low, high in binned(masks, maps, 2**20).bounds().values():
        assert high - low < 2e-4


def test_batches_in_any_order_give_the_same():
    masks, maps = random_pixels(1, 10**6)
    parts = PixelBins(64)
    for i in (2, 0, 1):
        parts.update(masks[i : i + 1], maps[i : i + 1])
    parts.update(masks[:0], maps[:0])
    whole, parts = binned(masks, maps, 64).figures(), parts.figures()
    assert {n: f.value for n, f in parts.items()} == pytest.approx(
        {n: f.value for n, f in whole.items()}, abs=1e-12
    )


def test_figures_state_their_bounds():
    masks, maps = random_pixels(0, 10**6)
    bins = binned(masks, maps, 16)
    low, high = bins.bounds()["pixel_auroc"]
    assert bins.figures()["pixel_auroc"].reason == (
        f"from 16 bins: the exact value is in [{low:.9f}, {high:.9f}]"
    )


def test_the_ends_of_the_range_and_half_precision():
    masks = np.array([[[True, False]]])
    figures = binned(masks, np.array([[[1.0, 0.0]]], np.float16), 2**20).figures()
    assert figures["pixel_auroc"].value == 1.0 and figures["pixel_ap"].value == 1.0


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
def test_undefined_is_none_with_a_reason(masks, maps, reason):
    bins = binned(masks, maps, 16)
    assert bins.figures() == dict.fromkeys(NAMES, Figure(None, reason))
    assert bins.bounds() == {}


def test_what_bins_refuse():
    with pytest.raises(ValueError, match="power of two, got 1000"):
        PixelBins(1000)
    bins, masks = PixelBins(16), np.array([[[True, False]]])
    with pytest.raises(ValueError, match=r"maps must lie in \[0, 1\], got \[0.0, 1.5\]"):
        bins.update(masks, np.array([[[1.5, 0.0]]]))
    with pytest.raises(ValueError, match=r"masks \(1, 1, 2\) and maps \(2,\) differ"):
        bins.update(masks, np.zeros(2))


def test_area_up_to_one_is_auroc():
    masks, maps = random_pixels(3, 20)
    c = curve.exact(masks, maps)
    assert curve.partial_area(c, 1.0) == pytest.approx(curve.auroc(c), abs=1e-12)
