"""F1-max against scikit-learn's precision and recall, and its threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_pixels import pixel_f1_max
from sklearn.metrics import f1_score, precision_recall_curve

from diffad_jax.evaluation.f1 import image_f1_max
from diffad_jax.evaluation.ranking import Metric

RANKED = st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=30).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


@settings(max_examples=50, deadline=None)
@given(RANKED)
def test_equals_scikit_learn_and_its_threshold_reaches_it(pairs):
    labels = np.array([label for label, _ in pairs], bool)
    scores = np.array([score for _, score in pairs], np.float32) / 7
    precision, recall, _ = precision_recall_curve(labels, scores)
    expected = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-30))
    metric, threshold = image_f1_max(labels, scores)
    assert metric.value == pytest.approx(expected, abs=1e-12)
    assert f1_score(labels, scores >= threshold) == pytest.approx(metric.value, abs=1e-12)
    for higher in set(scores[scores > threshold].tolist()):
        assert f1_score(labels, scores >= higher) < metric.value


def test_golden_value():
    # By hand: at 0.35 and above are 2 right and 1 wrong of 2 anomalous, so 4 / (4 + 1).
    labels = np.array([False, False, True, True])
    metric, threshold = image_f1_max(labels, np.array([0.1, 0.4, 0.35, 0.8]))
    assert metric == Metric(4 / 5) and threshold == 0.35


def test_pixels_of_all_photos_count_together():
    rng = np.random.default_rng(0)
    masks, maps = rng.random((3, 5, 5)) > 0.8, rng.random((3, 5, 5)).astype(np.float32)
    assert pixel_f1_max(masks, maps) == image_f1_max(masks.ravel(), maps.ravel())


def test_constant_scores_say_so():
    metric, threshold = image_f1_max(np.array([True, False, False]), np.full(3, 0.25))
    assert metric == Metric(0.5, "all test photos have the same score") and threshold == 0.25


def test_undefined_is_none_with_a_reason():
    one_class = image_f1_max(np.zeros(2, bool), np.zeros(2))
    assert one_class == (Metric(None, "there are no anomalous test photos"), None)
    without = pixel_f1_max(None, np.zeros((1, 2, 2)))
    assert without == (Metric(None, "defect photos have no ground-truth masks"), None)
    broken, threshold = pixel_f1_max(np.eye(2, dtype=bool)[None], np.full((1, 2, 2), np.nan))
    assert broken == Metric(None, "4 of 4 pixels have a score that is not finite")
    assert threshold is None
