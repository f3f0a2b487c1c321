"""Categories share what is compiled."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import ml_collections
import pytest

from configs import mvtec
from diffad_jax.inference.detector import Detector
from diffad_jax.runtime.compilation import jitted
from diffad_jax.runtime.sharding import over_photos


def config(category="tiles", **changes) -> ml_collections.FrozenConfigDict:
    mutable = mvtec.get_config(category)
    mutable.update_from_flattened_dict(changes)
    return ml_collections.FrozenConfigDict(mutable)


def scaled(params, photos, *, config):
    return params * photos.sum((1, 2, 3)) / config.image_size


def test_fields_that_shape_no_program_make_no_other_one():
    one = jitted(scaled, config())
    assert jitted(scaled, config("bottle", **{"data.bit_depth": 12})) is one
    assert jitted(scaled, config(image_size=64)) is not one
    assert jitted(scaled, config(), donate_argnums=(1,)) is not one
    assert jitted(scaled, config(), runs_once=True) is not one
    first, second = Detector(config(), {}), Detector(config("bottle"), {})
    assert first._predict is second._predict
    assert Detector(config(seed=1), {})._predict is not first._predict


DRAWN = """
import jax
from diffad_jax.methods.registry import default_config
from diffad_jax.runtime.compilation import jitted
import ml_collections
def drawn(key, *, config):
    return jax.random.truncated_normal(key, -2.0, 2.0, (3, 3, 3, 64)), jax.random.normal(key, (99,))
config = ml_collections.FrozenConfigDict(default_config("diffad"))
quick, thorough = (jitted(drawn, config, runs_once=once) for once in (True, False))
assert quick is not thorough
key = jax.random.key(0)
assert all((a == b).all() for a, b in zip(quick(key), thorough(key)))
"""


def test_what_runs_once_is_compiled_quickly_to_the_same_bits():
    """Without the flags of tests, which compile everything quickly."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    subprocess.run(
        [sys.executable, "-c", DRAWN],
        cwd=Path(__file__).parents[2],
        env=environment | {"JAX_PLATFORMS": "cpu"},
        check=True,
    )


@pytest.mark.parametrize("settings", [{}, {"data.bit_depth": 12}])
def test_the_config_stays_as_it_is(settings):
    before = config(**settings)
    jitted(scaled, before)
    assert before == config(**settings)
    assert ml_collections.ConfigDict(before) == ml_collections.ConfigDict(config(**settings))


def test_photos_of_the_next_category_meet_a_compiled_program(compilations):
    photos = [jnp.ones((2, 4, 4, 3), jnp.uint8)]
    for category, expected in (("tiles", 24.0), ("bottle", 48.0)):
        before = len(compilations)
        params = jnp.float32(expected * 256 / 48)
        assert next(over_photos(scaled, params, iter(photos), config(category))).tolist() == (
            [expected] * 2
        )
    assert "jit(scaled)" in compilations[:before]
    assert "jit(scaled)" not in compilations[before:]
