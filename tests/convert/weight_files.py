"""Mutants of files of weights: the only answer to damage is a ConvertError.

``seeds`` holds what PyTorch 2.13 wrote of two layers, their optimiser and a class as a key: as a
zip, as before 1.6, with a pickle of protocol 4; and safetensors of the same.
"""

import io
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
from fuzzing import mutated

from diffad_jax.convert import sources
from diffad_jax.convert.errors import ConvertError

SEEDS = sorted((Path(__file__).parent / "seeds").iterdir())
_WORDS = (
    b"\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"0" * 100, b"(", b")", b".", b"0", b"2",
    b"}", b"]", b"R", b"b", b"Q", b"s", b"u", b"a", b"e", b"t", b"\x85", b"\x86", b"\x87", b"N",
    b"\x88", b"\x8f", b"\x90", b"\x91", b"\x92", b"\x93", b"\x94", b"\x96", b"q\0", b"h\0",
    b"h\1", b"r\xff\xff\xff\x7f", b"j\0\0\0\0", b"cos\nsystem\n", b"ccollections\nOrderedDict\n",
    b"c__main__\n\n", b"\x8b\xff\xff\xff\x7f", b"\x8a\xff", b"X\xff\xff\xff\xff",
    b"\x8d" + b"\xff" * 8, b"J\xff\xff\xff\xff", b"F32", b"BF16", b"F8_E4M3", b"U64", b"[]",
    b"-1", b"1e400", b"9" * 30, b'"', b"{", b"[" * 300, b"\\ud800", b"\\u001b", b"null",
    b"PK\1\2", b"PK\5\6", b"PK\6\6", b"\x80\2", b"\x80\5", b"K\0", b"G" + b"\xff" * 8,
)  # fmt: skip


def mutant(seed: Path, rng: random.Random) -> bytes:
    """Half of them with checksums and lengths that fit, as a forger would give them."""
    data = seed.read_bytes()
    if rng.random() < 0.5:
        return mutated(data, rng, _WORDS)
    if seed.suffix == ".safetensors":
        end = 8 + struct.unpack("<Q", data[:8])[0]
        header = mutated(data[8:end], rng, _WORDS)
        return struct.pack("<Q", len(header)) + header + data[end:]
    if not data.startswith(b"PK"):
        end = len(data) - 500  # the pickles; the storages behind them are short
        return mutated(data[:end], rng, _WORDS) + data[end:]
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = mutated(content, rng, _WORDS)
            new.writestr(entry.filename, content)
    return made.getvalue()


def fuzz(folder: Path, rounds: int, seed: int) -> tuple[int, int]:
    """Reads mutants; how many were refused, and read."""
    rng, refused = random.Random(seed), 0
    for i in range(rounds):
        sound = rng.choice(SEEDS)
        path = folder / f"mutant{sound.suffix}"
        path.write_bytes(data := mutant(sound, rng))
        try:
            tensors = sources.read(path)
            assert sum(x.nbytes for x in tensors.values()) <= 4 * len(data)
            for value in tensors.values():
                np.ascontiguousarray(value)  # touches every byte
        except ConvertError as error:
            assert str(error).isprintable() and len(str(error)) < 2000
            refused += 1
        except BaseException as error:
            raise AssertionError(f"seed {seed}, mutant {i} of {sound.name}: {data!r}") from error
    return refused, rounds - refused
