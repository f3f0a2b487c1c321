"""DINOv2's shapes, its positions, and what it refuses; parity with PyTorch is in tests/parity."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffad_jax.models import dinov2
from diffad_jax.models.dinov2 import Dinov2

SMALL = Dinov2(("block1",), width=12, heads=2, registers=1, grid=3)
IMAGE = np.random.default_rng(0).uniform(size=(2, 42, 28, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("build", "width", "published"),
    [  # of the published code's models, without the mask's token
        (dinov2.dinov2_vits14, 384, 22_056_192),
        (dinov2.dinov2_vits14_reg, 384, 22_057_728),
        (dinov2.dinov2_vitb14, 768, 86_579_712),
        (dinov2.dinov2_vitb14_reg, 768, 86_582_784),
    ],
)
def test_shapes_and_parameters_are_the_published_ones(build, width, published):
    network = build(("block4", "block12"))
    image = jax.ShapeDtypeStruct((2, 518, 266, 3), np.float32)
    features, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), image)
    assert {name: x.shape for name, x in features.items()} == {
        "block4": (2, 37, 19, width),
        "block12": (2, 37, 19, width),
    }
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(variables)) == published


def test_blocks_behind_the_deepest_one_cost_nothing():
    variables = jax.eval_shape(SMALL.clone(names=("block2",)).init, jax.random.key(0), IMAGE)
    blocks = {name for name in variables["params"] if name.startswith("block")}
    assert blocks == {"block1", "block2"}


def test_half_precision_gives_nearly_the_same():
    rng, shapes = np.random.default_rng(1), jax.eval_shape(SMALL.init, jax.random.key(0), IMAGE)
    variables = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), shapes)
    exact = jax.jit(SMALL.apply)(variables, IMAGE)["block1"]
    half = jax.jit(SMALL.clone(dtype=jnp.bfloat16).apply)(variables, IMAGE)["block1"]
    assert exact.dtype == half.dtype == np.float32
    difference = np.abs(half - exact).max() / np.abs(exact).max()
    assert 0 < difference < 0.03


@pytest.mark.parametrize(
    "resize", [dinov2.bicubic_antialiased, lambda n, m: dinov2.bicubic(n, m, m / n)]
)
@pytest.mark.parametrize("new", [3, 7, 20])
def test_resizing_keeps_constants_and_the_middle(resize, new):
    matrix = resize(7, new)
    np.testing.assert_allclose(matrix.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-6)
    if new == 7:
        np.testing.assert_allclose(matrix, np.eye(7), atol=1e-6)


@pytest.mark.parametrize(
    ("names", "size", "said"),
    [
        (("block13",), (28, 28), "got 'block13': block1, block2"),
        ((), (28, 28), "got none: block1"),
        (("block1",), (28, 32), "sides are multiples of 14, got 28 x 32 pixels"),
    ],
)
def test_what_it_cannot_take_is_named(names, size, said):
    image = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(SMALL.clone(names=names).init, jax.random.key(0), image)
