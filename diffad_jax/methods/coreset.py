"""A few features that stand for very many, in bounded memory.

Features pass by in batches, and a uniform sample of them is kept (all, while there are few). From
the sample a coreset is chosen greedily: each time the feature that is farthest from those chosen
before (Sener and Savarese, ICLR 2018; algorithm 1 of PatchCore).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float16, Int32

from diffad_jax.runtime.progress import CountProgress
from diffad_jax.types import Array

_BLOCK = 8192  # rows that are on the device at a time
_SHOWN_AT_ONCE = 64  # choices between two looks at the clock


class Candidates:
    """A uniform sample, without replacement, of all features seen.

    Every feature draws a number, and features with the lowest numbers stay, as float16. The sample
    takes 2.5 bytes a channel for each of ``limit`` features, however many pass by.

    Args:
      limit: how many stay at most.
      channels: of a feature.
      seed: of the numbers.
    """

    def __init__(self, limit: int, channels: int, seed: int):
        self.seen = 0
        self._limit, self._rng = limit, np.random.default_rng(seed)
        capacity = limit + max(limit // 4, 1)  # so that dropping is rare
        self._features = np.empty((capacity, channels), np.float16)
        self._numbers = np.empty(capacity)
        self._count, self._bar = 0, 1.0  # features whose number is not below the bar are dropped

    def add(self, features: Float[Array, "n c"]) -> None:
        """Adds features, any number of them."""
        rows = np.asarray(features.astype(jnp.float16))
        self.seen += len(rows)
        numbers = self._rng.random(len(rows))
        waiting = np.flatnonzero(numbers < self._bar)
        while len(waiting):
            end = min(self._count + len(waiting), len(self._numbers))
            taken, waiting = np.split(waiting, [end - self._count])
            self._features[self._count : end] = rows[taken]
            self._numbers[self._count : end] = numbers[taken]
            self._count = end
            if end == len(self._numbers):
                self._drop()
                waiting = waiting[numbers[waiting] < self._bar]

    def features(self) -> Float16[np.ndarray, "n c"]:
        """The sample, at most ``limit``."""
        if self._count > self._limit:
            self._drop()
        return self._features[: self._count]

    def _drop(self) -> None:
        """Drops features down to the limit, in place."""
        kept = np.zeros(self._count, bool)
        kept[np.argpartition(self._numbers[: self._count], self._limit)[: self._limit]] = True
        holes = np.flatnonzero(~kept[: self._limit])
        late = self._limit + np.flatnonzero(kept[self._limit :])
        self._features[holes] = self._features[late]
        self._numbers[holes] = self._numbers[late]
        self._count, self._bar = self._limit, self._numbers[: self._limit].max()


def coreset(
    features: Float16[np.ndarray, "n c"], count: int, dimensions: int, seed: int
) -> Float16[np.ndarray, "{count} c"]:
    """Chooses ``count`` ≤ n features.

    Distances are measured after a random projection (Johnson and Lindenstrauss) to ``dimensions``,
    where that is less than c.
    """
    key, start_key = jax.random.split(jax.random.key(seed))
    start = jax.random.randint(start_key, (), 0, len(features))
    if dimensions < features.shape[1]:
        matrix = jax.random.normal(key, (features.shape[1], dimensions)) / np.sqrt(dimensions)
        blocks = (features[i : i + _BLOCK] for i in range(0, len(features), _BLOCK))
        points = jnp.concatenate([jnp.asarray(b, jnp.float32) @ matrix for b in blocks])
    else:
        points = jnp.asarray(features, jnp.float32)
    return features[np.asarray(greedy(points, start, count))]


def greedy(
    points: Float[Array, "n d"], start: Int32[Array, ""] | int, count: int
) -> Int32[Array, " {count}"]:
    """Indices of points: ``start``, then each time the farthest from those before.

    Of equally far points the first one is chosen. It takes n · d · count operations and no more
    memory than the points themselves.
    """
    chosen = jnp.zeros(count, jnp.int32).at[0].set(start)
    nearest = jnp.full(len(points), jnp.inf)
    with CountProgress(count, "patches of the bank chosen") as progress:
        for begin in range(1, count, _SHOWN_AT_ONCE):
            end = min(begin + _SHOWN_AT_ONCE, count)
            chosen, nearest = _choose(points, chosen, nearest, begin, end)
            jax.block_until_ready(chosen)
            progress.update(end - begin)
    return chosen


@functools.partial(jax.jit, donate_argnums=(1, 2))
def _choose(
    points: jax.Array,
    chosen: jax.Array,
    nearest: jax.Array,
    begin: jax.Array | int,
    end: jax.Array | int,
) -> tuple[jax.Array, jax.Array]:
    """The choices from ``begin`` up to ``end``; ``nearest`` [n] is the distance to those before."""

    def choose(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        chosen, nearest = carry
        latest = points[chosen[i - 1]]
        nearest = jnp.minimum(nearest, jnp.sum((points - latest[None]) ** 2, axis=-1))
        return chosen.at[i].set(jnp.argmax(nearest)), nearest

    return jax.lax.fori_loop(begin, end, choose, (chosen, nearest))
