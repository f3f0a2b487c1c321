"""Scores photos: python run.py PHOTO ...; needs TensorFlow alone."""

import sys
from pathlib import Path

import artifact  # beside this file
import tensorflow as tf

HERE = Path(__file__).resolve().parent
artifact.read_card(HERE)  # compares every file with its checksum

model = tf.saved_model.load(str(HERE / "1"))
photos = tf.constant([Path(path).read_bytes() for path in sys.argv[1:]])
found = model.signatures["serving_default"](image_bytes=photos)  # score, anomaly_map
for path, score in zip(sys.argv[1:], found["score"].numpy().tolist(), strict=True):
    print(f"{path},{score:.6f}")
