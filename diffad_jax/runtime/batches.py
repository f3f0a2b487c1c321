"""Work in batches: filled up to one size, and done ahead of its reader."""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np

T, R = TypeVar("T"), TypeVar("R")


def filled_up(batch: np.ndarray, size: int) -> np.ndarray:
    """[size, …]: a batch [b, …] with 1 ≤ b ≤ size, continued by its last example.

    Programs are compiled for one size; results of the filling are cut off.
    """
    return np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])


def in_batches(run: Callable[..., Any], inputs: Sequence[np.ndarray], batch_size: int) -> Any:
    """``run`` over any number of examples, in batches of one size; results as NumPy.

    Args:
      run: takes as many arrays as there are ``inputs``, [batch_size, …] each, and returns a tree of
        arrays [batch_size, …].
      inputs: [n, …] each, n > 0.
      batch_size: examples of one call.
    """
    parts = []
    for i in range(0, len(inputs[0]), batch_size):
        batch = [x[i : i + batch_size] for x in inputs]
        found = jax.device_get(run(*(filled_up(x, batch_size) for x in batch)))
        parts.append(found)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(inputs[0])], *parts)


def map_ahead(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int,
    ahead: int,
    cost: Callable[[T], int] = lambda _: 0,
    budget: int = 0,
) -> Iterator[R]:
    """``map`` in threads, in order, a few results ahead of what was taken.

    Threads are enough, because decoding, decompression and large copies release Python's lock.

    Args:
      function: of an item.
      items: taken one by one, as room is made; they may be endless.
      threads: at work at once.
      ahead: the most results that wait to be taken.
      cost: the cost of an item's result, in the unit of ``budget``.
      budget: the most that waiting results may cost together, one item excepted. 0: no bound.
    """
    waiting: collections.deque = collections.deque()
    spent = 0
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            price = cost(item)
            while waiting and (len(waiting) >= ahead or (budget and spent + price > budget)):
                future, paid = waiting.popleft()
                yield future.result()
                spent -= paid
            waiting.append((pool.submit(function, item), price))
            spent += price
        while waiting:
            yield waiting.popleft()[0].result()
