"""Where arrays live: a mesh of devices with the axes ``data`` and ``fsdp``.

Batches are split over both axes. Weights and optimiser state are split over ``fsdp`` and copied
over ``data``; the compiler gathers what a layer needs when it needs it (fully sharded data
parallelism, Rajbhandari et al. 2020).
"""

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from diffad_jax.errors import ConfigError
from diffad_jax.runtime.batches import filled_up
from diffad_jax.runtime.compilation import jitted

_SMALLEST = 2**12  # values; a smaller array is not worth a message between devices


def make_mesh(config: ml_collections.FrozenConfigDict) -> Mesh:
    """The mesh that ``config.mesh`` describes, over all devices of all processes.

    Raises:
      ConfigError: the axes do not multiply to the number of devices.
    """
    count, fsdp = jax.device_count(), config.mesh.fsdp
    data = count // fsdp if config.mesh.data == -1 else config.mesh.data
    if data * fsdp != count:
        raise ConfigError(
            f"config.mesh.data = {config.mesh.data} and config.mesh.fsdp = {fsdp} do not make "
            f"{count} device(s): their product must (data = -1 takes what is left)"
        )
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), (AxisType.Auto, AxisType.Auto))


def check_batch_size(mesh: Mesh, batch_size: int, field: str) -> None:
    """Raises ConfigError if a batch cannot be split evenly over the mesh."""
    if batch_size % mesh.size:
        raise ConfigError(f"{field} = {batch_size} is not a multiple of {mesh.size} devices")


def batch_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def weights_sharding(mesh: Mesh, tree: Any) -> Any:
    """A sharding for each array: its longest axis that ``fsdp`` divides, the last of equals."""
    return jax.tree.map(lambda x: NamedSharding(mesh, _split(x.shape, mesh.shape["fsdp"])), tree)


def _split(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    fits = [i for i, n in enumerate(shape) if n % parts == 0]
    if parts == 1 or not fits or math.prod(shape) < _SMALLEST:
        return PartitionSpec()
    axis = max(fits, key=lambda i: (shape[i], i))
    return PartitionSpec(*("fsdp" if i == axis else None for i in range(len(shape))))


def place(mesh: Mesh, tree: Any) -> Any:
    """Places whole host arrays, which are equal in all processes, by ``weights_sharding``."""
    return jax.tree.map(_place, tree, weights_sharding(mesh, tree))


def _place(x: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(x, jax.Array) and x.sharding == sharding:
        return x
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """Shapes with the shardings to restore their arrays to."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    )


def to_global(batch: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Joins this process's share of a batch into the batch of all processes."""
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def over_photos(
    function: Callable[..., Any],
    params: Any,
    photos: Iterator[np.ndarray],
    config: ml_collections.FrozenConfigDict,
) -> Iterator[Any]:
    """``function(params, images, config=config)``, a tree of [b, …], of each batch on all devices.

    It is compiled once: batches of at most ``config.evaluation.batch_size`` photos are filled up to
    a size that the devices share evenly, and results of the filling are cut off.

    Raises:
      ConfigError: the mesh does not fit the devices.
    """
    mesh = make_mesh(config)
    size = -(-config.evaluation.batch_size // mesh.size) * mesh.size
    params = jax.device_put(params, replicated(mesh))
    # Whole in every process, where there are several.
    run = jitted(function, config, out_shardings=replicated(mesh))
    for batch in photos:
        padded = jax.device_put(filled_up(batch, size), batch_sharding(mesh))
        yield jax.tree.map(operator.itemgetter(slice(len(batch))), run(params, padded))
