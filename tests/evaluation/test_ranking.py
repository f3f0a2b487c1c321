"""AUROC and average precision: golden values, properties, and what is undefined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from diffad_jax.evaluation import pixels
from diffad_jax.evaluation.ranking import Metric, image_metrics, mean_metrics

RANKED = st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=30).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def values(metrics: dict[str, Metric]) -> dict[str, float | None]:
    return {name: metric.value for name, metric in metrics.items()}


def pixel_metrics(masks: np.ndarray | None, maps: np.ndarray) -> dict[str, Metric]:
    """As evaluation has them, from the counts of all photos."""
    names = ("pixel_auroc", "pixel_ap")
    counts = pixels.count(masks, maps, ["a kind"] * len(maps), 64)
    if isinstance(counts, str):
        return dict.fromkeys(names, Metric(None, counts))
    return {name: counts.metrics()[name] for name in names}


def arrays(pairs) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = zip(*pairs, strict=True)
    return np.array(labels, bool), np.array(scores, np.float32)


def pairwise_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The share of (defect, normal) pairs in order, a tie counting half (Mann and Whitney)."""
    difference = scores[labels][:, None] - scores[~labels][None]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def stepwise_ap(labels: np.ndarray, scores: np.ndarray) -> float:
    """Sum over thresholds of (recall gained) x precision, written as the definition reads."""
    total, recall = 0.0, 0.0
    for limit in sorted(set(scores.tolist()), reverse=True):
        found = scores >= limit
        gained = (found & labels).sum() / labels.sum()
        total += (gained - recall) * labels[found].mean()
        recall = gained
    return total


def test_golden_values():
    # By hand: of 4 pairs only (0.35, 0.4) is out of order; precision 1 at recall 1/2, 2/3 at 1.
    labels = np.array([False, False, True, True])
    metrics = values(image_metrics(labels, np.array([0.1, 0.4, 0.35, 0.8])))
    assert metrics["image_auroc"] == pytest.approx(3 / 4, abs=1e-12)
    assert metrics["image_ap"] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3, abs=1e-12)


def test_golden_ties():
    # By hand: of the 2 pairs one is in order and one tied (half); at the tie precision is 1 of 2.
    metrics = values(image_metrics(np.array([True, False, False]), np.array([1.0, 1.0, 0.0])))
    assert metrics == {"image_auroc": 0.75, "image_ap": 0.5}


@settings(max_examples=40, deadline=None)
@given(RANKED)
def test_equals_the_definitions_ties_included(pairs):
    labels, scores = arrays(pairs)
    metrics = values(image_metrics(labels, scores))
    assert metrics["image_auroc"] == pytest.approx(pairwise_auroc(labels, scores), abs=1e-12)
    assert metrics["image_ap"] == pytest.approx(stepwise_ap(labels, scores), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(RANKED)
def test_equals_scikit_learn_ties_included(pairs):
    labels, scores = arrays(pairs)
    metrics = values(image_metrics(labels, scores))
    assert metrics["image_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert metrics["image_ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(RANKED, st.floats(-10, 10))
def test_constant_scores_are_chance_and_one_class_is_undefined(pairs, score):
    labels, scores = arrays(pairs)
    metrics = image_metrics(labels, np.full(len(labels), score))
    expected = {"image_auroc": 0.5, "image_ap": labels.mean()}
    assert values(metrics) == pytest.approx(expected, abs=1e-12)
    for of_class in (labels, ~labels):
        alone = image_metrics(labels[of_class], scores[of_class])
        assert all(metric.value is None and "there are no" in metric.reason
                   for metric in alone.values())  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(RANKED, st.randoms())
def test_monotone_transforms_and_order_do_not_matter(pairs, random):
    labels, scores = arrays(pairs)
    other_labels, other_scores = arrays(random.sample(pairs, len(pairs)))
    transformed = np.exp(other_scores.astype(np.float64) / 3.0) - 7.0
    assert values(image_metrics(labels, scores)) == pytest.approx(
        values(image_metrics(other_labels, transformed)), abs=1e-12
    )


def test_negated_scores_mirror_auroc():
    rng = np.random.default_rng(0)
    labels, scores = rng.random(50) > 0.5, rng.random(50)
    there, back = image_metrics(labels, scores), image_metrics(labels, -scores)
    assert there["image_auroc"].value + back["image_auroc"].value == pytest.approx(1.0, abs=1e-12)


def test_perfect_and_perfectly_wrong():
    masks = np.zeros((2, 4, 4), bool)
    masks[1, :2] = True
    assert values(pixel_metrics(masks, masks.astype(np.float32))) == {
        "pixel_auroc": 1.0,
        "pixel_ap": 1.0,
    }
    assert pixel_metrics(masks, 1.0 - masks)["pixel_auroc"].value == 0.0


def test_pixels_of_all_photos_are_ranked_together():
    rng = np.random.default_rng(0)
    masks, maps = rng.random((3, 5, 5)) > 0.8, rng.random((3, 5, 5)).astype(np.float32)
    metrics, flat = pixel_metrics(masks, maps), image_metrics(masks.ravel(), maps.ravel())
    assert metrics["pixel_auroc"].value == flat["image_auroc"].value
    assert metrics["pixel_ap"].value == flat["image_ap"].value


def test_constant_scores_are_chance_and_say_so():
    labels = np.array([True, False, False, False])
    metrics = image_metrics(labels, np.full(4, 0.3))
    reason = "all test photos have the same score"
    assert metrics == {"image_auroc": Metric(0.5, reason), "image_ap": Metric(0.25, reason)}


@pytest.mark.parametrize(
    ("labels", "scores", "reason"),
    [
        ([], [], "there are no test photos"),
        ([True, True], [0.1, 0.2], "there are no normal test photos"),
        ([False, False], [0.1, 0.2], "there are no anomalous test photos"),
        ([True, False], [np.nan, 0.2], "1 of 2 test photos have a score that is not finite"),
        ([True, False], [np.inf, -np.inf], "2 of 2 test photos have a score that is not finite"),
    ],
)
def test_undefined_is_none_with_a_reason(labels, scores, reason):
    metrics = image_metrics(np.array(labels, bool), np.array(scores, float))
    assert metrics == {"image_auroc": Metric(None, reason), "image_ap": Metric(None, reason)}


def test_pixel_metrics_without_masks_or_defects():
    maps = np.zeros((2, 4, 4), np.float32)
    without = pixel_metrics(None, maps)
    assert without["pixel_auroc"] == Metric(None, "defect photos have no ground-truth masks")
    assert without.keys() == {"pixel_auroc", "pixel_ap"}
    empty = pixel_metrics(np.zeros((2, 4, 4), bool), maps)
    assert empty["pixel_ap"] == Metric(None, "there are no anomalous pixels")


def test_means_count_only_where_a_metric_is_defined():
    whole, gap = {"x": Metric(0.5)}, {"x": Metric(None, "why")}
    assert mean_metrics([whole, {"x": Metric(1.0)}])["x"] == Metric(0.75)
    assert mean_metrics([whole, gap, gap])["x"] == Metric(0.5, "mean of 1 of 3 categories")
    assert mean_metrics([gap, gap])["x"] == Metric(None, "mean of 0 of 2 categories")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_metric_is_never_nan(value):
    with pytest.raises(ValueError, match="must be finite or None"):
        Metric(value)


def test_a_gap_needs_a_reason():
    with pytest.raises(ValueError, match="needs a reason"):
        Metric(None)
