"""Verdicts at a threshold."""

import numpy as np

from diffad_jax.evaluation.confusion import Confusion, confusion
from diffad_jax.evaluation.ranking import Metric

LABELS = np.array([True, True, True, False, False, False, False])
SCORES = np.array([0.9, 0.6, 0.2, 0.7, 0.5, 0.1, 0.0])


def test_golden_counts():
    # By hand: above 0.5 lie 0.9, 0.6 (right) and 0.7 (wrong); 0.5 itself is normal.
    table = confusion(LABELS, SCORES, 0.5)
    assert table == Confusion(2, 1, 3, 1, without_score=0)
    assert table.precision == Metric(2 / 3) and table.recall == Metric(2 / 3)


def test_undefined_is_none_with_a_reason():
    silent = confusion(LABELS, SCORES, 1.0)
    assert silent == Confusion(0, 0, 4, 3, without_score=0)
    assert silent.precision == Metric(None, "no photo was called anomalous")
    assert silent.recall == Metric(0.0)
    normal = confusion(np.zeros(2, bool), np.array([0.1, 0.9]), 0.5)
    assert normal.recall == Metric(None, "there are no anomalous test photos")
    assert normal.precision == Metric(0.0)


def test_nan_is_no_verdict():
    table = confusion(LABELS, np.where(SCORES == 0.2, np.nan, SCORES), 0.5)
    assert table == Confusion(2, 1, 3, 0, without_score=1)
    reason = Metric(None, "1 test photos have NaN as their score")
    assert table.precision == reason and table.recall == reason
