"""Variants change what they say, and share exactly the stages that they do not change."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from benchmarks import ablations
from configs import mvtec_small
from diffad_jax.methods.diffad import STAGES
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.methods.diffad.reconstruct import Reconstruction
from diffad_jax.methods.registry import check_config
from diffad_jax.training.fingerprint import fingerprint


def changed_config(name: str) -> ml_collections.ConfigDict:
    return ablations.changed(mvtec_small.get_config("bottle"), name)


def test_what_a_variant_shares_is_trained_before_it():
    assert ablations.lineage("full") == ["full"]
    want = ["full", "all timesteps", "5 steps in training", "5 steps in both"]
    assert ablations.lineage("5 steps in both") == want


@pytest.mark.parametrize("name", ablations.VARIANTS)
def test_as_many_stages_are_shared_as_can_be(name):
    check_config(changed_config(name))
    before, after = (
        [fingerprint(s, ml_collections.FrozenConfigDict(c), {}) for s in STAGES]
        for c in (changed_config(ablations.VARIANTS[name].base), changed_config(name))
    )
    same = [a == b for a, b in zip(before, after, strict=True)]
    shared = ablations.VARIANTS[name].shared if name != "full" else len(STAGES)
    assert all(same[:shared])
    # What stands on a changed stage is trained again, whether or not its own settings are the same.
    assert shared == len(STAGES) or not same[shared]


def test_several_reconstructions_become_one(monkeypatch):
    photo = Exposed(jnp.zeros((1, 1, 2, 3)), jnp.ones((1, 1, 1, 1)))

    def drawn(weights, photo, key, *, config, num_steps):
        """Far from the photo, and at one of its two pixels near, as the key says."""
        where = jax.random.randint(key, (), 0, 2) == jnp.arange(2)
        x = jnp.where(where, 0.1, 0.5)[None, None, :, None] + photo.image
        return Reconstruction(x, 2 * x[:, None])

    monkeypatch.setattr(ablations, "reconstruct", drawn)
    config = mvtec_small.get_config("bottle")
    mean = ablations.replacement({}, photo, "mean", config=config)
    assert float(mean.reconstruction.sum()) == pytest.approx(3 * 0.6)
    nearest = ablations.replacement({}, photo, "nearest", config=config)
    np.testing.assert_allclose(nearest.reconstruction, np.full((1, 1, 2, 3), 0.1))
    np.testing.assert_allclose(nearest.interpolated, np.full((1, 1, 1, 2, 3), 0.2))


def test_shared_stages_are_found_where_full_left_them(tmp_path):
    full = tmp_path / "full" / "bottle"
    for stage in ("autoencoder", "denoiser", "segmenter"):
        (full / stage).mkdir(parents=True)
        (full / stage / "weights").write_text(stage)
    here = tmp_path / "clean_condition" / "bottle"
    for _ in range(2):  # again, as when it goes on
        ablations.share(full, here, 2)
    assert [p.name for p in sorted(here.iterdir())] == ["autoencoder", "denoiser"]
    assert (here / "denoiser" / "weights").read_text() == "denoiser"
