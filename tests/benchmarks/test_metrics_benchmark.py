"""The benchmark of the metrics compares like with like. Nothing is judged by its time."""

import numpy as np
import pytest
from plain_pixels import pro

from benchmarks import metrics


def test_every_run_is_timed_and_metrics_agree():
    report = metrics.measure(*metrics.test_set(6, 32), rounds=2, little_mib=0)
    assert report["pixels"] == 6 * 32 * 32
    for name in metrics.RUNS:
        assert report[f"{name}_seconds"] >= report[f"{name}_best_seconds"] > 0
    assert report["difference_to_scikit_learn"] < 1e-12
    assert min(report["ratio"], report["pro_ratio"], report["ratio_of_all_metrics"]) > 0
    assert report["bounds_width_pixel_auroc"] >= 0


def test_the_test_set_is_fixed_and_imperfect():
    masks, maps = metrics.test_set(6, 32)
    np.testing.assert_array_equal(maps, metrics.test_set(6, 32)[1])
    assert not masks[:2].any() and masks[2:].any(axis=(1, 2)).all()
    assert maps.dtype == np.float32 and maps.min() >= 0 and maps.max() <= 1
    auroc, ap = metrics.sklearn_metrics(masks, maps)
    assert 0.8 < auroc < 1 and 0.5 < ap < 1


def test_the_plain_pro_tends_to_ours():
    masks, maps = metrics.test_set(3, 16)
    assert metrics.plain_pro(masks, maps, 3000) == pytest.approx(pro(masks, maps).value, abs=0.01)
