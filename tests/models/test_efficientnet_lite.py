"""EfficientNet-Lite's own convolution; parity with PyTorch is in tests/parity."""

import functools

import jax
import numpy as np
import pytest

from diffad_jax.models.efficientnet_lite import (
    LAYERS,
    efficientnet_lite0,
    grouped,
    shifted_products,
)


@pytest.mark.parametrize(("size", "strides"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_shifted_products_are_a_depthwise_convolution(size, strides):
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 9, 14, 3)), rng.standard_normal((size, size, 1, 3))
    x, kernel = x.astype(np.float32), kernel.astype(np.float32)
    padding = jax.lax.padtype_to_pads(x.shape[1:3], (size, size), (strides, strides), "SAME")
    ours, xlas = (
        jax.jit(functools.partial(f, strides=strides, padding=padding))(x, kernel)
        for f in (shifted_products, grouped)
    )
    assert ours.shape == (2, -(-9 // strides), -(-14 // strides), 3)
    np.testing.assert_allclose(ours, xlas, atol=1e-5)


def test_shapes_are_those_of_the_documentation():
    network = efficientnet_lite0(LAYERS)
    image = jax.ShapeDtypeStruct((1, 65, 64, 3), np.float32)
    features, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), image)
    for name, reduction, width in zip(
        LAYERS, (2, 4, 8, 16, 16, 32, 32), (16, 24, 40, 80, 112, 192, 320), strict=True
    ):
        assert features[name].shape == (1, -(-65 // reduction), 64 // reduction, width)


def test_unknown_stages_are_named():
    network = efficientnet_lite0(("stage8",))
    with pytest.raises(ValueError, match="got 'stage8': stage1, stage2"):
        jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
