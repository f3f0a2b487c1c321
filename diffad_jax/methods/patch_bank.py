"""Patches of feature maps, and their distances to the nearest patches of a bank."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int32

from diffad_jax.methods import backbone
from diffad_jax.types import Array, FeatureMaps

Patches = Float[Array, "b n c"]
Bank = Float[Array, "k c"]

# At most so many of the photos' patches and of the bank's are compared at a time: what caches hold.
_GROUP = 256
_BLOCK = 2048


def joined(maps: Sequence[Float[Array, "b _ _ _"]]) -> FeatureMaps:
    """The maps of several layers averaged, enlarged to the largest size, concatenated.

    The averages are over 3 x 3. They count zeros beyond the border, as PatchCore's published code
    does. The layers keep their widths; that code averages neighbouring channels to 1024.
    """
    averaged = [nn.avg_pool(x, (3, 3), padding="SAME") for x in maps]
    size = backbone.largest(averaged)
    shapes = [(x.shape[0], *size, x.shape[-1]) for x in averaged]
    return jnp.concatenate(
        [jax.image.resize(x, s, "linear", antialias=False)
         for x, s in zip(averaged, shapes, strict=True)],
        axis=-1,
    )  # fmt: skip


def nearest(
    patches: Patches, bank: Bank
) -> tuple[Float32[jax.Array, "b n"], Int32[jax.Array, "b n"]]:
    """The distance of each patch to its nearest one in the bank, and which that is.

    Equal groups of patches are compared to equal blocks of the bank, each by a matrix product:
    ‖a - b‖² = ‖a‖² - 2 a·b + ‖b‖². Of equals it is the first.
    """
    b, n, channels = patches.shape
    rows = bank.astype(jnp.float32)
    blocks = _blocks(rows)

    def of_group(_: None, group: jax.Array) -> tuple[None, jax.Array]:
        first = jnp.full(group.shape[:2], jnp.inf), jnp.zeros(group.shape[:2])
        (_, index), _ = jax.lax.scan(functools.partial(_nearer, group), first, blocks)
        return None, index

    # A graph for any number of photos has as many groups as that for one.
    count, size = _equal_parts(n, _GROUP if jax.export.is_symbolic_dim(b) else max(_GROUP // b, 1))
    padded = jnp.pad(patches, ((0, 0), (0, count * size - n), (0, 0)))
    groups = jnp.moveaxis(padded.reshape(b, count, size, channels), 1, 0)
    _, found = jax.lax.scan(of_group, None, groups)
    index = jnp.moveaxis(found, 0, 1).reshape(b, count * size)[:, :n].astype(jnp.int32)
    # Not from ‖a‖² + partial, which would leave rounding where the two nearly cancel.
    return length(patches - rows[index]), index


def _blocks(rows: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The bank [k, c] as [m, s, c], with ‖b‖², infinite for padding, and numbers: [m, 1, 1, s]."""
    count, size = _equal_parts(len(rows), _BLOCK)
    missing = count * size - len(rows)
    squares = jnp.pad(jnp.sum(rows**2, axis=-1), (0, missing), constant_values=jnp.inf)
    shape = (count, 1, 1, size)
    return (
        jnp.pad(rows, ((0, missing), (0, 0))).reshape(count, size, -1),
        squares.reshape(shape),
        jnp.arange(count * size, dtype=jnp.float32).reshape(shape),
    )


def _nearer(
    group: jax.Array, nearest_yet: tuple[jax.Array, jax.Array], block: tuple[jax.Array, ...]
) -> tuple[tuple[jax.Array, jax.Array], None]:
    """(‖a - b‖² - ‖a‖², the number of b), each [b, n], with those of a block taken in."""
    (least_yet, index_yet), (rows, squares, numbers) = nearest_yet, block
    # ‖a‖² is the same for all b, so it waits until the nearest is known.
    partial = squares - 2.0 * jnp.matmul(group, rows.T, precision="highest")
    # Two minima, since XLA computes an argmin on CPUs ten times as slowly as a minimum.
    least = partial.min(-1, keepdims=True)
    index = jnp.where(partial == least, numbers, numbers.max()).min(-1)
    is_nearer = least[..., 0] < least_yet
    return (
        jnp.where(is_nearer, least[..., 0], least_yet),
        jnp.where(is_nearer, index, index_yet),
    ), None


def _equal_parts(n: int, most: int) -> tuple[int, int]:
    """How many parts of at most ``most`` hold n, and their size, so that hardly any is padding."""
    count = -(-n // most)
    return count, -(-n // count)


def median_distance(patches: Patches, bank: Bank) -> Float[jax.Array, " b"]:
    """Of each photo's patches to the nearest in the bank."""
    return jnp.median(nearest(patches, bank)[0], axis=1)


def length(x: Float[Array, "*shape c"]) -> Float[Array, "*shape"]:
    """Of vectors along the last axis."""
    return jnp.sqrt(jnp.sum(x**2, axis=-1))
