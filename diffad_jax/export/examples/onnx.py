"""Scores photos: python run.py PHOTO ... (or .npy files of [side, side, 3] uint8 RGB pixels)."""

import sys
from pathlib import Path

import artifact  # beside this file, as is photo
import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
CARD = artifact.read_card(HERE)  # compares every file with its checksum


def read(path: str) -> np.ndarray:
    if path.endswith(".npy"):
        return np.load(path)
    import photo  # needs Pillow

    rules = CARD["preprocessing"]
    return photo.resized(photo.decode(Path(path).read_bytes()), rules["side"], rules["resize"])


options = onnxruntime.SessionOptions()
options.log_severity_level = 3  # it warns that the seed is an input with a default
graph = onnxruntime.InferenceSession(HERE / "model.onnx", options)
image = np.stack([read(path) for path in sys.argv[1:]])  # [b, side, side, 3]
score, anomaly_map = graph.run(["score", "anomaly_map"], {"image": image})
for path, value in zip(sys.argv[1:], score.tolist(), strict=True):
    print(f"{path},{value:.6f}")
