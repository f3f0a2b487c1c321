"""Exported graphs as functions of photos; each format imports its own runtime alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from diffad_jax.export.artifact import ArtifactError, read_weights

# [b, side, side, 3] uint8 RGB and a seed -> ``score`` [b] and ``anomaly_map`` [b, side, side].
Detect = Callable[[np.ndarray, int], dict[str, np.ndarray]]


def load(folder: Path, card: dict) -> Detect:
    """The graph of a folder that ``artifact.read_card`` has checked.

    Raises:
      ArtifactError: the format holds no graph, or needs a package that is not installed.
    """
    loaders = {"stablehlo": _stablehlo, "saved_model": _saved_model, "onnx": _onnx}
    if card["format"] not in loaders:
        raise ArtifactError(
            f"{folder} holds {card['format']}, which cannot be run: export it as one of "
            f"{', '.join(loaders)}"
        )
    try:
        return loaders[card["format"]](folder)
    except ImportError as error:
        raise ArtifactError(f"{error}: pip install {' '.join(card['runtime'])}") from error


def _stablehlo(folder: Path) -> Detect:
    import jax
    import jax.export

    graph = jax.export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    weights = jax.device_put(read_weights(folder / "weights.safetensors"))
    call = jax.jit(graph.call)

    def detect(image: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        return jax.device_get(call(weights, image, np.uint32(seed)))

    return detect


def _saved_model(folder: Path) -> Detect:
    import tensorflow as tf

    model = tf.saved_model.load(str(folder / "1"))

    def detect(image: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        scaled = tf.constant(image.astype(np.float32) / 255.0)
        # Through the model, since a signature does not keep its weights alive.
        found = model.signatures["seeded"](image=scaled, seed=tf.constant(seed, tf.int64))
        return {name: value.numpy() for name, value in found.items()}

    return detect


def _onnx(folder: Path) -> Detect:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that the seed is an input with a default
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", options, providers=onnxruntime.get_available_providers()
    )
    names = [output.name for output in session.get_outputs()]

    def detect(image: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        inputs = {"image": image, "seed": np.array(seed, np.uint32)}
        return dict(zip(names, session.run(names, inputs), strict=True))

    return detect
