"""A small exported folder, drawn, and mutations of it: the only answer to damage is an
ArtifactError."""

import json
import random
from pathlib import Path

import numpy as np
import safetensors.numpy
from fuzzing import mutated

from diffad_jax.export import artifact

CARD = {
    "format": "stablehlo",
    "category": "tiles",
    "method": "mean_photo",
    "weights": "0f3a",
    "config": {},
    "runtime": ["jax"],
    "files": ["model.stablehlo", "weights.safetensors"],
    "inputs": {"image": "[b, 16, 16, 3]", "seed": "[]"},
    "seed": 0,
    "preprocessing": {"size": [16, 16], "resize": "antialias", "bit_depth": 8, "photo_mib": 512},
    "threshold": {
        "value": 0.5,
        "false_alarm_rate": 0.05,
        "num_held_out_normal": 20,
        "num_accepted": 0,
    },
    "pixel_threshold": {"value": 0.6},
    "colours": {"low": 0.0, "high": 1.0},
}
WEIGHTS = {
    "a/kernel": np.arange(1200, dtype=np.float32).reshape(30, 40),
    "b/bank": np.arange(10, dtype=np.float16).reshape(5, 2),
    "c/scale": np.array(2.5, np.float32),
}
_WORDS = (b"[]", b"{}", b"null", b"-1", b"1e999", b"NaN", b"9" * 400, b"[" * 5000, b"\xff\xfe",
          b"\0", b"../x", b"/etc/passwd", b'"', b"\n", b"  ", b"true", b"F16", b"BF16")  # fmt: skip


def write(folder: Path, card: object = CARD) -> Path:
    """A sound folder but for its ``card``."""
    folder.mkdir(exist_ok=True)
    (folder / "model.stablehlo").write_bytes(b"graph")
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(WEIGHTS))
    text = card if isinstance(card, bytes) else json.dumps(card).encode()
    (folder / "model.json").write_bytes(text)
    artifact.write_checksums(folder)
    return folder


def read(folder: Path) -> None:
    """What a runner reads before the runtime does."""
    card = artifact.read_card(folder)
    for name in card["files"]:
        artifact.listed(folder, card, name)
    if "weights.safetensors" in card["files"]:
        for value in artifact.read_weights(folder / "weights.safetensors").values():
            value.sum(dtype=np.float64)  # touches every byte


def fuzz(folder: Path, rounds: int, seed: int) -> tuple[int, int]:
    """Reads mutants of the list, the card and the weights; how many were refused, and read.

    Most mutants of card and weights get a fitting checksum, as a forger would give them.
    """
    rng, refused = random.Random(seed), 0
    sound = {path.name: path.read_bytes() for path in write(folder).iterdir()}
    for i in range(rounds):
        name = rng.choice(("SHA256SUMS", "model.json", "weights.safetensors"))
        data = mutated(sound[name], rng, _WORDS)
        (folder / name).write_bytes(data)
        if name != "SHA256SUMS" and rng.random() < 0.9:
            (folder / "SHA256SUMS").unlink()
            artifact.write_checksums(folder)
        try:
            read(folder)
        except artifact.ArtifactError:
            refused += 1
        except BaseException as error:
            raise AssertionError(f"seed {seed}, mutant {i} of {name}: {data!r}") from error
        for restored in (name, "SHA256SUMS"):
            (folder / restored).write_bytes(sound[restored])
    return refused, rounds - refused
