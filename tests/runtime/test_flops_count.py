"""Matrix products and convolutions, counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from diffad_jax.runtime import flops

MATRIX = jax.ShapeDtypeStruct((8, 8), jnp.float32)
PRODUCT = 2 * 8**3


def product(x):
    return x @ x


def convolve(x, kernel, strides=(1, 1)):
    return lax.conv_general_dilated(
        x, kernel, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_matrix_product_and_batches_of_it():
    assert flops.count(product, MATRIX) == PRODUCT
    batched = jax.ShapeDtypeStruct((3, 8, 8), jnp.float32)
    assert flops.count(product, batched) == 3 * PRODUCT


def test_loops_count_as_often_as_they_run_and_branches_once():
    def scanned(x):
        return lax.scan(lambda c, _: (product(c), None), x, None, length=5)[0]

    def branched(x):
        return lax.cond(x[0, 0] > 0, lambda y: product(product(y)), product, x)

    assert flops.count(jax.jit(scanned), MATRIX) == 5 * PRODUCT
    assert flops.count(branched, MATRIX) == 2 * PRODUCT


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_convolution_and_its_gradients(strides):
    """Each of the two gradients takes as many operations as the convolution itself."""
    x = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 7), jnp.float32)

    def loss(x, kernel):
        return jnp.sum(convolve(x, kernel, strides) ** 2)

    side = 16 // strides[0]
    once = 2 * (2 * side * side * 7) * (3 * 3 * 3)
    assert flops.count(convolve, x, kernel) == 2 * (2 * 16 * 16 * 7) * 27
    assert flops.count(loss, x, kernel) == once
    assert flops.count(jax.grad(loss, argnums=(0, 1)), x, kernel) == pytest.approx(3 * once)


def test_recomputation_is_work():
    def loss(x):
        return jnp.sum(jax.checkpoint(lambda y: jnp.sin(product(jnp.sin(product(y)))))(x))

    def plain(x):
        return jnp.sum(jnp.sin(product(jnp.sin(product(x)))))

    more = flops.count(jax.grad(loss), MATRIX) - flops.count(jax.grad(plain), MATRIX)
    assert more >= PRODUCT
