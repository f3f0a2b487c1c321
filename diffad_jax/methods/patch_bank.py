"""Patches of feature maps, and their distances to the nearest patches of a bank."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffad_jax.methods import backbone

_GROUP = 256  # at most, of a photo's patches that are compared at a time: what caches hold


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


def nearest(patches: jax.Array, bank: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The distance of each patch to its nearest one in the bank, and which that is.

    Patches are compared in equal groups, each by a matrix product:
    ‖a - b‖² = ‖a‖² - 2 a·b + ‖b‖².

    Args:
      patches: [b, n, c] float32.
      bank: [k, c].

    Returns:
      [b, n] float32, and [b, n] int32 in 0 … k - 1, the first of equals.
    """
    b, n, channels = patches.shape
    rows = bank.astype(jnp.float32)
    squares = jnp.sum(rows**2, axis=-1)[None, None]
    numbers = jnp.arange(len(bank), dtype=jnp.float32)[None, None]

    def of_group(_: None, group: jax.Array) -> tuple[None, jax.Array]:
        # ‖a‖² is the same for all b, so it waits until the nearest is known.
        partial = squares - 2.0 * jnp.matmul(group, rows.T, precision="highest")
        # Two minima, since XLA computes an argmin on CPUs ten times as slowly as a minimum.
        least = partial.min(-1, keepdims=True)
        return None, jnp.where(partial == least, numbers, float(len(bank) - 1)).min(-1)

    count = -(-n // _GROUP)
    size = -(-n // count)  # equal groups, so that hardly a patch is padding
    padded = jnp.pad(patches, ((0, 0), (0, count * size - n), (0, 0)))
    groups = jnp.moveaxis(padded.reshape(b, count, size, channels), 1, 0)
    _, found = jax.lax.scan(of_group, None, groups)
    index = jnp.moveaxis(found, 0, 1).reshape(b, count * size)[:, :n].astype(jnp.int32)
    # Not from ‖a‖² + partial, which would leave rounding where the two nearly cancel.
    return length(patches - bank[index].astype(jnp.float32)), index


def median_distance(patches: jax.Array, bank: jax.Array) -> jax.Array:
    """[b, n, c], [k, c] -> [b]: of each photo's patches to the nearest in the bank."""
    return jnp.median(nearest(patches, bank)[0], axis=1)


def length(x: jax.Array) -> jax.Array:
    """[..., c] -> [...]."""
    return jnp.sqrt(jnp.sum(x**2, axis=-1))
