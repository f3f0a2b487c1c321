"""Where arrays live; the mesh is abstract, so one device is enough."""

import functools
import math

import jax
import ml_collections
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from configs import mvtec
from diffad_jax.errors import ConfigError
from diffad_jax.methods.diffad import latent_diffusion
from diffad_jax.runtime import sharding


def mesh(data, fsdp):
    return AbstractMesh((data, fsdp), ("data", "fsdp"), (AxisType.Auto, AxisType.Auto))


def bytes_of(tree, shardings):
    """On one device."""
    return sum(
        math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize
        for x, s in zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    )


def test_fsdp_cuts_the_published_denoiser_to_an_eighth():
    config = mvtec.get_config()
    config.diffusion.steps = 1
    config = ml_collections.FrozenConfigDict(config)
    init = functools.partial(latent_diffusion.init_state, config)
    batch = {"image": jax.ShapeDtypeStruct((1, 256, 256, 3), np.uint8)}
    state = jax.eval_shape(init, jax.random.key(0), {}, batch)
    for tree in (state.params, state.opt_state, state.ema_params):
        whole = bytes_of(tree, sharding.weights_sharding(mesh(8, 1), tree))
        part = bytes_of(tree, sharding.weights_sharding(mesh(1, 8), tree))
        assert whole >= 4 * 257_742_340
        assert 1 / 8 <= part / whole < 1.01 / 8


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((3, 3, 64, 128), (None, None, None, "fsdp")),
        ((3, 3, 128, 64), (None, None, "fsdp", None)),
        ((64, 64), (None, "fsdp")),
        ((3, 3, 63, 127), ()),  # nothing divides
        ((64,), ()),  # too small to be worth a message
        ((), ()),
    ],
)
def test_the_longest_axis_that_divides_is_split(shape, spec):
    leaf = jax.ShapeDtypeStruct(shape, np.float32)
    assert sharding.weights_sharding(mesh(2, 4), leaf).spec == PartitionSpec(*spec)


def test_a_mesh_must_use_every_device():
    config = mvtec.get_config()
    assert dict(sharding.make_mesh(config).shape) == {"data": 1, "fsdp": 1}
    config.mesh.data = 2
    with pytest.raises(ConfigError, match=r"data = 2 and config.mesh.fsdp = 1 do not make 1 dev"):
        sharding.make_mesh(config)


def test_a_batch_must_split_evenly():
    sharding.check_batch_size(mesh(2, 4), 16, "batch_size")
    with pytest.raises(ConfigError, match="batch_size = 12 is not a multiple of 8 devices"):
        sharding.check_batch_size(mesh(2, 4), 12, "batch_size")
