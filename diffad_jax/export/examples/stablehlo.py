"""Scores photos: python run.py PHOTO ... (or .npy files of [side, side, 3] uint8 RGB pixels)."""

import sys
from pathlib import Path

import artifact  # beside this file, as is photo
import jax
import jax.export
import numpy as np

HERE = Path(__file__).resolve().parent
CARD = artifact.read_card(HERE)  # compares every file with its checksum


def read(path: str) -> np.ndarray:
    if path.endswith(".npy"):
        return np.load(path)
    import photo  # needs Pillow

    rules = CARD["preprocessing"]
    return photo.resized(photo.decode(Path(path).read_bytes()), rules["side"], rules["resize"])


weights = artifact.read_weights(HERE / "weights.safetensors")
graph = jax.export.deserialize(bytearray((HERE / "model.stablehlo").read_bytes()))
image = np.stack([read(path) for path in sys.argv[1:]])  # [b, side, side, 3]
found = jax.jit(graph.call)(weights, image, np.uint32(CARD["seed"]))
for path, score in zip(sys.argv[1:], found["score"].tolist(), strict=True):
    print(f"{path},{score:.6f}")
