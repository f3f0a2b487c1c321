"""Mutations of sound files, for the tests that read damaged ones."""

import random


def mutated(data: bytes, rng: random.Random, words: tuple[bytes, ...]) -> bytes:
    """Bytes changed, cut out, doubled, or replaced by ``words``, which readers stumble over."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        match rng.randrange(8):
            case 0 | 1 | 2 | 3 if at < len(data):
                data[at] = rng.randrange(256)
            case 4:
                del data[at:end]
            case 5:
                data[at:at] = data[at:end]
            case 6:
                data[at : at + rng.randrange(8)] = rng.choice(words)
            case _:
                data[at:at] = rng.choice(words)
    return bytes(data)
