"""The sample that passes by in batches, and the greedy choice from it."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffad_jax.methods.coreset import Candidates, coreset, greedy

RNG = np.random.default_rng(0)


def plainly(points, start, count):
    """Algorithm 1 of PatchCore as it is written: every distance, every time."""
    chosen = [start]
    while len(chosen) < count:
        to_chosen = np.linalg.norm(points[:, None] - points[chosen][None], axis=-1)
        chosen.append(int(np.argmax(to_chosen.min(axis=1))))
    return chosen


@pytest.mark.parametrize("start", [0, 17])
def test_greedy_equals_a_plain_one(start):
    points = RNG.standard_normal((60, 5)).astype(np.float32)
    chosen = greedy(jnp.asarray(points), start, 25)
    assert chosen.tolist() == plainly(points, start, 25)


def test_the_whole_set_is_chosen_once():
    points = RNG.standard_normal((12, 3)).astype(np.float32)
    assert sorted(greedy(jnp.asarray(points), 4, 12).tolist()) == list(range(12))


def test_a_coreset_reaches_every_cluster_however_small():
    centres = 20.0 * RNG.standard_normal((8, 40))
    sizes = [400, 300, 200, 50, 20, 5, 2, 1]
    rows = np.repeat(centres, sizes, axis=0) + 0.1 * RNG.standard_normal((sum(sizes), 40))
    bank = coreset(rows.astype(np.float16), 8, dimensions=16, seed=3)
    nearest = np.linalg.norm(bank[:, None] - centres[None], axis=-1).argmin(axis=1)
    assert sorted(nearest.tolist()) == list(range(8))


def test_a_seed_decides_where_it_starts():
    rows = RNG.standard_normal((50, 4)).astype(np.float16)
    first = [coreset(rows, 1, dimensions=8, seed=seed)[0].tolist() for seed in (0, 0, 1, 2, 3)]
    assert first[0] == first[1] and len(set(map(tuple, first))) > 1


def added(limit, batches, seed=0):
    """The candidates of features that are their own number."""
    candidates, total = Candidates(limit, 1, seed), 0
    for size in batches:
        candidates.add(jnp.arange(total, total + size, dtype=jnp.float32)[:, None])
        total += size
    assert candidates.seen == total
    return candidates.features()[:, 0].astype(int).tolist()


def test_few_features_all_stay_in_order():
    assert added(10, [3, 4, 3]) == list(range(10))


@pytest.mark.parametrize("batches", [[100], [7] * 20, [1] * 30, [12, 500, 1]])
def test_of_many_the_limit_stays_each_once(batches):
    found = added(10, batches)
    assert len(found) == len(set(found)) == 10 and max(found) < sum(batches)


def test_every_feature_has_the_same_chance():
    counts = np.zeros(40)
    for seed in range(300):
        counts[added(8, [13, 13, 14], seed)] += 1
    # Binomial with mean 60 and standard deviation 6.9.
    assert abs(counts - 60).max() < 4.5 * 6.9
