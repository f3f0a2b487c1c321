"""Feature maps of a pretrained network, whatever the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffad_jax.methods import backbone
from diffad_jax.models.resnet import resnet18

NETWORK = resnet18(("layer1",))


@pytest.fixture(scope="module")
def params():
    return NETWORK.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]


def whole(params, images):
    return NETWORK.apply({"params": params}, images)


def one_by_one(params, images):
    return backbone.layers_of(NETWORK, params, images)


def test_photo_by_photo_is_equal_to_the_batch_at_once(params):
    images = np.random.default_rng(0).random((5, 32, 32, 3), np.float32)
    ours, theirs = (jax.jit(f)(params, images)["layer1"] for f in (one_by_one, whole))
    assert ours.shape == (5, 8, 8, 64)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_cpu_holds_the_maps_of_one_photo_at_a_time(params):
    images = jax.ShapeDtypeStruct((16, 32, 32, 3), np.float32)
    one, all_ = (
        jax.jit(f).lower(params, images).compile().memory_analysis().temp_size_in_bytes
        for f in (one_by_one, whole)
    )
    assert one < all_ / 3


def test_any_number_of_photos_is_taken_at_once(params):
    (batch,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, 32, 32, 3), np.float32)
    graph = jax.export.export(jax.jit(one_by_one))(params, images).mlir_module()
    assert "while" not in graph
