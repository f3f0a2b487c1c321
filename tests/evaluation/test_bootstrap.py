"""Bootstrap intervals: against a plain loop, a closed form, and the law of their width."""

import numpy as np
import pytest
from plain_pixels import pixel_f1_max, pixel_metrics

from diffad_jax.evaluation import bootstrap, pixels
from diffad_jax.evaluation.bootstrap import image_intervals, resamples
from diffad_jax.evaluation.f1 import image_f1_max
from diffad_jax.evaluation.ranking import image_metrics


def scored_photos(n: int, levels: int = 10**6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    labels = np.arange(n) % 3 > 0
    return labels, np.round((rng.random(n) + 0.3 * labels) * levels) / levels


def scored_pixels(n: int, size: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    masks = (rng.random((n, size, size)) > 0.7) & (np.arange(n) % 2 > 0)[:, None, None]
    maps = np.round((rng.random(masks.shape) + 0.5 * masks) * levels) / levels
    return masks, maps.astype(np.float32)


def pixel_intervals(masks, maps, seed, num_resamples=1000):
    counts = pixels.count(masks, maps, ["a kind"] * len(maps), memory_mib=64)
    return bootstrap.pixel_intervals(counts, seed, num_resamples)


def looped(metrics_of, weights: np.ndarray) -> np.ndarray:
    """[2, 3]: 95 % limits, computed resample by resample from repeated photos."""
    values = []
    for row in weights.astype(int):
        drawn = np.repeat(np.arange(row.size), row)
        values.append([metric.value for metric in metrics_of(drawn)])
    return np.percentile(values, (2.5, 97.5), axis=0)


def limits(intervals) -> np.ndarray:
    return np.array([[side.value for side in interval] for interval in intervals.values()]).T


@pytest.mark.parametrize("levels", [5, 10**6])
def test_images_equal_a_plain_loop(levels):
    labels, scores = scored_photos(25, levels)

    def metrics_of(drawn):
        metrics = image_metrics(labels[drawn], scores[drawn])
        return *metrics.values(), image_f1_max(labels[drawn], scores[drawn])[0]

    expected = looped(metrics_of, resamples(labels, 5, 130))
    intervals = image_intervals(labels, scores, seed=5, num_resamples=130)
    assert list(intervals) == ["image_auroc", "image_ap", "image_f1_max"]
    np.testing.assert_allclose(limits(intervals), expected, atol=1e-12)


@pytest.mark.parametrize(("levels", "tolerance"), [(9, 1e-12), (10**6, 1e-3)])
def test_pixels_equal_a_plain_loop(levels, tolerance):
    masks, maps = scored_pixels(10, 20, levels)

    def metrics_of(drawn):
        metrics = pixel_metrics(masks[drawn], maps[drawn])
        return *metrics.values(), pixel_f1_max(masks[drawn], maps[drawn])[0]

    expected = looped(metrics_of, resamples(masks.any(axis=(1, 2)), 5, 40))
    intervals = pixel_intervals(masks, maps, seed=5, num_resamples=40)
    assert list(intervals) == ["pixel_auroc", "pixel_ap", "pixel_f1_max"]
    np.testing.assert_allclose(limits(intervals), expected, atol=tolerance)


def test_closed_form():
    # Of 200 anomalous photos 120 score above all normal ones and 80 tie with them: AUROC is
    # (1 + q) / 2 of a binomial share q, so its interval is about 0.8 +- 1.96 sqrt(q (1-q) / n) / 2.
    labels = np.arange(300) >= 100
    scores = (np.arange(300) >= 180).astype(float)
    low, high = image_intervals(labels, scores, seed=0, num_resamples=4000)["image_auroc"]
    reach = 1.96 * np.sqrt(0.6 * 0.4 / 200) / 2
    assert low.value == pytest.approx(0.8 - reach, abs=0.004)
    assert high.value == pytest.approx(0.8 + reach, abs=0.004)


def test_contains_the_metrics():
    labels, scores = scored_photos(60)
    masks, maps = scored_pixels(30, 8, 10**6)
    metrics = image_metrics(labels, scores) | pixel_metrics(masks, maps)
    intervals = image_intervals(labels, scores, 0) | pixel_intervals(masks, maps, 0)
    for name, metric in metrics.items():
        low, high = intervals[name]
        assert low.value < metric.value < high.value


def test_width_falls_with_the_root_of_the_number_of_photos():
    labels, scores = scored_photos(60)
    widths = []
    for copies in (1, 16):  # of the same distribution
        many = np.tile(labels, copies), np.tile(scores, copies)
        low, high = image_intervals(*many, seed=0)["image_auroc"]
        widths.append(high.value - low.value)
    assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.1)


def test_the_seed_decides():
    photos = scored_photos(20)
    assert image_intervals(*photos, seed=1) == image_intervals(*photos, seed=1)
    assert image_intervals(*photos, seed=1) != image_intervals(*photos, seed=2)


def test_each_class_keeps_its_size():
    labels = np.array([True, False, True, False, False])
    weights = resamples(labels, 0, 50)
    assert weights.shape == (50, 5)
    assert (weights[:, labels].sum(axis=1) == 2).all()
    assert (weights[:, ~labels].sum(axis=1) == 3).all()
    assert weights.std(axis=0).min() > 0


def test_undefined_is_none_with_a_reason():
    def reasons(intervals):
        assert all(side.value is None for sides in intervals.values() for side in sides)
        return {side.reason for sides in intervals.values() for side in sides}

    labels, scores = scored_photos(6)
    assert reasons(image_intervals(~labels & labels, scores, 0)) == {
        "there are no anomalous test photos"
    }
    masks, maps = scored_pixels(4, 3, 9)
    assert reasons(pixel_intervals(None, maps, 0)) == {"defect photos have no ground-truth masks"}
    assert reasons(pixel_intervals(masks, np.full_like(maps, np.nan), 0)) == {
        "36 of 36 pixels have a score that is not finite"
    }
    # One photo is all defect: some resamples draw nothing else.
    masks = np.ones((2, 3, 3), bool)
    masks[1, 0, 0] = False
    assert reasons(pixel_intervals(masks, maps[:2], 0)) == {
        "a resample of the test photos has no normal pixel"
    }
