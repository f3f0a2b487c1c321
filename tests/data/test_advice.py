"""What is recommended, and when nothing is."""

import re

import numpy as np
import pytest

from diffad_jax.data import advice


@pytest.mark.parametrize(
    ("normal", "held_out", "rate", "said"),
    [
        (57, 19, 0.05, None),
        (20, 6, 0.05, "1 in 7 new good photos.*For 5 % hold out 19: take 57 photos"),
        (200, 20, 0.01, "1 in 21 new good photos.*For 1 % hold out 99: take 990 photos"),
        (5, 1, 0.05, "1 held out: there is no threshold, which takes 6, .*take 18 photos or more"),
        (3, 1, 1.0, "there is no threshold"),
        (40, 0, 0.05, "none held out: there is no threshold.*config.data.validation_share above 0"),
        (20, 6, 0.0, None),
        (20, 6, 1.0, None),
    ],
)
def test_few_photos(normal, held_out, rate, said):
    found = advice.few_photos(normal, held_out, rate, 0.1)
    if said is None:
        assert found == []
    else:
        (sentence,) = found
        assert re.search(said, sentence)


@pytest.mark.parametrize("count", [1, 4, 19])
def test_one_in_so_many_exceeds_all_held_out_scores(count):
    scores = np.random.default_rng(0).gumbel(size=(20_000, count + 1))
    exceeding = (scores[:, 0] > scores[:, 1:].max(axis=1)).mean()
    assert exceeding == pytest.approx(1 / (count + 1), abs=0.012)


def test_light_is_judged_by_the_reference():
    rng = np.random.default_rng(0)
    values = [*(120 + 2 * rng.standard_normal(30)), 150.0, 90.0, 121.0]
    files = [f"{i}.png" for i in range(33)]
    (sentence,) = advice.light(values, [True] * 30 + [False] * 3, files)
    assert (
        sentence.startswith("2 normal photos under other light") and "30.png, 31.png;" in sentence
    )
    assert advice.light(values[:30], [True] * 30, files[:30]) == []
    assert advice.light([120.0, 127.0], [True] * 2, files[:2]) == []  # no more than 8 levels
    assert advice.light([120.0], [False], files[:1]) == []


def test_shapes_and_colours():
    assert advice.sizes([(100, 100), (200, 201)]) == [] and advice.sizes([]) == []
    assert "0.50 to 2.00" in advice.sizes([(100, 200), (200, 100)])[0]
    assert advice.colours(["L", "I;16"]) == [] and advice.colours(["RGB", "RGBA"]) == []
    assert "1 of 3 photos are grey" in advice.colours(["RGB", "LA", "P"])[0]
