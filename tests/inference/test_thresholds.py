"""What scores of held-out normal photos say of a threshold."""

import numpy as np
import pytest

from diffad_jax.inference import thresholds
from diffad_jax.inference.thresholds import threshold_at_rate


@pytest.mark.parametrize(
    ("count", "rate", "above"),
    [(19, 0.05, 0), (29, 0.05, 0), (30, 0.05, 1), (39, 0.05, 1), (20, 0.0, 0), (99, 0.29, 28),
     (30, 0.1, 2), (7, 1.0, 6), (1, 0.5, 0), (10, 0.7, 7), (3, 1 / 3, 0)],
)  # fmt: skip
def test_so_many_scores_exceed_the_threshold(count, rate, above):
    scores = np.random.default_rng(0).permutation(count).astype(float)
    threshold = threshold_at_rate(scores, rate)
    assert np.sum(scores > threshold) == above
    assert threshold in scores and isinstance(threshold, float)


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (21, 0.05), (40, 0.05), (76, 0.1)])
def test_new_photos_exceed_it_at_about_the_rate(count, rate):
    draws = np.random.default_rng(0).random((4000, count))
    above = 1.0 - np.array([threshold_at_rate(scores, rate) for scores in draws])
    assert np.mean(above) == pytest.approx(rate, abs=0.5 / (count + 1) + 0.003)


def test_equal_scores_count_together():
    assert threshold_at_rate([1.0, 2.0, 2.0, 2.0], 0.5) == 2.0
    assert threshold_at_rate([1.0, 1.0, 1.0, 2.0], 0.4) == 1.0


def test_the_interval_is_that_of_clopper_and_pearson():
    """Ends by bisection of the binomial distribution."""

    def tail(above, of, rate):  # P(K <= above)
        terms = [1.0]
        for k in range(above):
            terms.append(terms[-1] * (of - k) / (k + 1) * rate / (1 - rate))
        return (1 - rate) ** of * sum(terms)

    for above, of in ((1, 24), (3, 40), (12, 24)):
        found = thresholds.false_alarms([1.0] * above + [0.0] * (of - above), 0.5)
        assert (found.above, found.of) == (above, of)
        assert tail(above, of, found.high) == pytest.approx(0.025)
        assert 1 - tail(above - 1, of, found.low) == pytest.approx(0.025)
    none = thresholds.false_alarms([0.0] * 24, 0.0)
    assert none.low == 0.0 and tail(0, 24, none.high) == pytest.approx(0.05)
    assert thresholds.false_alarms([1.0] * 6, 0.0).high == 1.0


def test_the_upper_end_holds_for_a_threshold_that_was_chosen_on_the_scores():
    """The rate above the largest but one of 40 is above the upper end in 2.5 % of draws."""
    draws = np.random.default_rng(0).random((20_000, 40))
    limits = [threshold_at_rate(scores, 0.05) for scores in draws[:2000]]
    assert limits[0] == np.sort(draws[0])[-2]
    high = thresholds.false_alarms(draws[0], limits[0]).high
    exceeded = np.mean(1.0 - np.sort(draws, axis=1)[:, -2] > high)
    assert exceeded == pytest.approx(0.025, abs=0.004)


def test_words():
    assert thresholds.false_alarms([0.0] * 24, 0.0).describe() == (
        "0 of 24 held-out photos lie above it: the true rate is below 12 %"
    )
    assert thresholds.false_alarms([0.0] * 23 + [1.0], 0.0).describe() == (
        "1 of 24 held-out photos lies above it: the true rate is 0.1 to 21 %"
    )


def test_one_outlier_is_left_aside_and_two_are_not():
    scores = [*np.linspace(1.0, 2.0, 12), 9.0]
    assert thresholds.far_above(scores) == [12]
    assert thresholds.choose(scores, [], 0.05) == 2.0
    assert thresholds.choose(scores, [], 0.0) == 9.0
    assert thresholds.choose([*scores, 8.0], [], 0.05) == 9.0
    assert thresholds.choose(scores[:-1], [9.0], 0.05) == 9.0  # an inspector accepted it
    # It uses up what the rate allows.
    assert thresholds.choose(scores, [], 0.2) == threshold_at_rate(scores, 0.2)
    assert thresholds.far_above([1.0] * 8 + [5.0]) == []
