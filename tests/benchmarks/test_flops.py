"""The counter of floating-point operations; nothing is computed or timed."""

import functools
import re

import jax
import jax.numpy as jnp
import ml_collections
import pytest

from benchmarks.flops import count, load
from configs import mvtec
from diffad_jax.errors import UserError
from diffad_jax.methods.diffad import networks
from diffad_jax.runtime import flops


def test_published_networks_cost_what_others_counted():
    """Forward at 256 × 256, a multiply-add as two; XLA omits what multiplies padding."""
    config = ml_collections.FrozenConfigDict(mvtec.get_config())
    key = jax.random.key(0)

    def cost(network, *inputs, **static):
        init = functools.partial(network.init, **static)
        apply = functools.partial(network.apply, **static)
        return flops.count(apply, jax.eval_shape(init, key, *inputs), *inputs)

    denoiser = cost(networks.denoiser(config), jnp.zeros((1, 32, 32, 8)), jnp.zeros((1,)))
    segmenter = cost(networks.segmenter(config), jnp.zeros((1, 256, 256, 9)), train=False)
    assert denoiser == pytest.approx(80e9, rel=0.08)
    assert segmenter == pytest.approx(76e9, rel=0.05)


def test_every_ddim_step_is_counted(tiny_config):
    costs = []
    for steps in (1, 2, 3):
        tiny_config.reconstruction.test_steps = steps
        report = count(ml_collections.FrozenConfigDict(tiny_config), num_photos=10)
        costs.append(report["detector"]["gflop_an_image"])
    assert costs[2] - costs[1] == pytest.approx(costs[1] - costs[0]) and costs[1] > costs[0]


def test_a_config_may_name_its_category():
    assert load("configs/mvtec_small.py:bottle").categories == ("bottle",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("configs/nothing.py", "--config=configs/nothing.py: there is no file configs/nothing.py"),
        ("configs", "it must be FILE.py"),
        ("configs/draem_small.py", "is of draem: it must be one of DiffAD's"),
    ],
)
def test_a_config_that_cannot_be_counted_is_refused(name, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load(name)
