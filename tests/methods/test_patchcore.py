"""PatchCore's distances and scores against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance

from diffad_jax.methods import patch_bank, patchcore

RNG = np.random.default_rng(0)
BANK = RNG.standard_normal((23, 6)).astype(np.float16)


@pytest.mark.parametrize(("group", "block"), [(2, 5), (4, 5), (25, 8), (256, 2048)])
def test_nearest_equals_a_full_comparison(group, block, monkeypatch):
    monkeypatch.setattr(patch_bank, "_GROUP", group)
    monkeypatch.setattr(patch_bank, "_BLOCK", block)
    patches = RNG.standard_normal((3, 50, 6)).astype(np.float32)
    ours, index = patch_bank.nearest(jnp.asarray(patches), jnp.asarray(BANK))
    theirs = distance.cdist(patches.reshape(150, 6), BANK.astype(np.float64)).reshape(3, 50, 23)
    np.testing.assert_array_equal(index, theirs.argmin(axis=-1))
    np.testing.assert_allclose(ours, theirs.min(axis=-1), rtol=1e-5)


@pytest.mark.parametrize("block", [7, 2048])
def test_of_equals_the_first_is_nearest(block, monkeypatch):
    monkeypatch.setattr(patch_bank, "_BLOCK", block)
    bank = np.concatenate([BANK, BANK])
    _, index = patch_bank.nearest(jnp.asarray(BANK, jnp.float32)[None], jnp.asarray(bank))
    np.testing.assert_array_equal(index[0], np.arange(23))


def test_what_is_in_the_bank_is_at_distance_zero():
    far = BANK + np.float16(100)  # where ‖a‖² - 2 a·b + ‖b‖² would be rounding alone
    ours, index = patch_bank.nearest(jnp.asarray(far, jnp.float32)[None], jnp.asarray(far))
    np.testing.assert_array_equal(ours, np.zeros((1, 23), np.float32))
    np.testing.assert_array_equal(index, [np.arange(23)])


def plainly(patch, bank, neighbours):
    """Equation 7 in float64."""
    to_bank = np.linalg.norm(bank - patch, axis=1)
    nearest = int(np.argmin(to_bank))
    around = np.argsort(np.linalg.norm(bank - bank[nearest], axis=1))[:neighbours]
    weight = 1 - np.exp(to_bank[nearest]) / np.exp(to_bank[around]).sum()
    return weight * to_bank[nearest]


@pytest.mark.parametrize("neighbours", [2, 9, 100])
def test_scores_are_weighed_as_in_the_paper(neighbours):
    patch = RNG.standard_normal((4, 6)).astype(np.float32)
    (found,), (index,) = patch_bank.nearest(jnp.asarray(patch)[None], jnp.asarray(BANK))
    ours = patchcore.reweighted(jnp.asarray(patch), found, index, jnp.asarray(BANK), neighbours)
    theirs = [plainly(p, BANK.astype(np.float64), neighbours) for p in patch.astype(np.float64)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_large_distances_do_not_overflow():
    patch = jnp.full((1, 6), 1000.0)
    (found,), (index,) = patch_bank.nearest(patch[None], jnp.asarray(BANK))
    ours = patchcore.reweighted(patch, found, index, jnp.asarray(BANK), 9)
    assert np.isfinite(ours).all() and 0 < ours[0] < found[0]


@pytest.mark.parametrize(("size", "neighbours"), [(1, 9), (23, 1)])
def test_without_neighbours_a_distance_is_the_score(size, neighbours):
    patch, bank = jnp.ones((1, 6)), jnp.asarray(BANK[:size])
    (found,), (index,) = patch_bank.nearest(patch[None], bank)
    np.testing.assert_array_equal(
        patchcore.reweighted(patch, found, index, bank, neighbours), found
    )
