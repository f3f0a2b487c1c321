"""Patches of feature maps, and their distances to the nearest patches of a bank."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffad_jax.methods import backbone

_BLOCK = 2048  # at most, of the bank's patches that are compared at a time: bounds the memory


def joined(maps: Sequence[jax.Array]) -> jax.Array:
    """[b, h', w', c'] of each layer -> [b, h, w, c]: averaged, enlarged to one size, concatenated.

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


def nearest(queries: jax.Array, bank: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The distance of each of [q, c] to the nearest of [k, c], and its index: [q], [q].

    The bank is compared in equal blocks, each by a matrix product:
    ‖a - b‖² = ‖a‖² - 2 a·b + ‖b‖².
    """
    count, channels = bank.shape
    size = -(-count // -(-count // _BLOCK))  # equal, so that hardly a row is padding
    blocks = jnp.pad(bank, ((0, -count % size), (0, 0))).reshape(-1, size, channels)
    exists = (jnp.arange(blocks.shape[0] * size) < count).reshape(-1, size)

    def closer(best: tuple[jax.Array, jax.Array], block: tuple):
        first, rows, real = block
        rows = rows.astype(jnp.float32)
        squares = jnp.where(real, jnp.sum(rows**2, axis=-1), jnp.inf)
        # ‖a‖² is the same for all b, so it waits until the nearest is known.
        partial = squares[None] - 2.0 * jnp.matmul(queries, rows.T, precision="highest")
        value, index = partial.min(1), first + partial.argmin(1)
        closer = value < best[0]
        return (jnp.where(closer, value, best[0]), jnp.where(closer, index, best[1])), None

    start = jnp.full(queries.shape[:1], jnp.inf), jnp.zeros(queries.shape[:1], jnp.int32)
    firsts = jnp.arange(blocks.shape[0], dtype=jnp.int32) * size
    (value, index), _ = jax.lax.scan(closer, start, (firsts, blocks, exists))
    # Not from ‖a‖² + value, because of rounding where the two nearly cancel.
    return length(queries - bank[index].astype(jnp.float32)), index


def length(x: jax.Array) -> jax.Array:
    """[..., c] -> [...]."""
    return jnp.sqrt(jnp.sum(x**2, axis=-1))
