"""Damaged tables of photos: any bytes give rows below the root, or a DataError."""

import os
from pathlib import Path

import numpy as np

from diffad_jax.data import layouts, photo_table
from diffad_jax.data.listing import DataError

_TABLE = "split_csv/1cls.csv"
_GOOD = (
    b"object,split,label,image,mask\n"
    b"nut,train,normal,nut/0.png,\nnut,test,bad,nut/2.png,nut/2_mask.png\n"
)
_ALPHABET = np.frombuffer(b",\"\n\r\0/\\.\xff\xfe\xef\xbb\xbf;\t '-=a", np.uint8)


def fuzz(root: Path, rounds: int, seed: int) -> tuple[int, int]:
    """(refused, read) of so many mutants of a table in ``root``."""
    rng = np.random.default_rng(seed)
    (root / "split_csv").mkdir(exist_ok=True)
    refused = 0
    for _ in range(rounds):
        data = np.frombuffer(_GOOD, np.uint8).copy()
        places = rng.integers(0, len(data), rng.integers(1, 8))
        data[places] = rng.choice(_ALPHABET, len(places))
        cut = slice(*sorted(rng.integers(0, len(data) + 1, 2))) if rng.random() < 0.3 else slice(0)
        (root / _TABLE).write_bytes(np.delete(data, cut).tobytes())
        try:
            for row in photo_table.read(str(root), _TABLE):
                assert os.path.realpath(row.image).startswith(str(root))
            for category in layouts.list_categories(root, "visa"):
                layouts.survey(root, category, "visa")
        except DataError:
            refused += 1
    return refused, rounds - refused
