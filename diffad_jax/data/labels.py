"""Labels: what networks are told of the category that an example shows."""

import hashlib
import os
from collections.abc import Iterator, Sequence

import numpy as np

from diffad_jax.types import LABEL_SIZE, Batch


def code(category: str) -> np.ndarray:
    """A category's label: [64] float32 of length 1, nearly at right angles to those of others.

    Its signs are bits of the name's SHA-256. So a category that is added changes no other's.
    """
    digest = hashlib.sha256(os.fsencode(category)).digest()
    bits = np.unpackbits(np.frombuffer(digest, np.uint8), count=LABEL_SIZE)
    return (2.0 * bits - 1.0).astype(np.float32) / np.float32(LABEL_SIZE**0.5)


def labelled(
    batches: Iterator[Batch],
    categories: Sequence[str],
    batch_size: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """``batches`` of ``pipeline.batches``, in which categories take turns, with their labels."""
    codes = np.stack([code(category) for category in categories])
    share = batch_size // process_count
    for step, batch in enumerate(batches, start_step):
        first = step * batch_size + process_index * share
        turns = np.arange(first, first + share) % len(codes)
        yield Batch(**batch, label=codes[turns])
