"""Weights alone: under our names, and under those of the published PyTorch code."""

import sys
from pathlib import Path

import numpy as np
import safetensors.numpy

from diffad_jax.convert import exporter
from diffad_jax.convert.errors import ConvertError
from diffad_jax.export.graph import Model

RUNTIME = ("safetensors", "numpy")


def write(model: Model, folder: Path) -> None:
    """Writes ``weights.safetensors``, and ``published/`` with a file for each network.

    The latter is left out, and the reason is printed, where the published networks have no
    counterpart for the config. ``--mode=import`` reads them.
    """
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(model.weights))
    try:
        files = exporter.published_tensors(model.config, model.workdir, model.category)
    except ConvertError as error:
        print(f"without the published names: {error}", file=sys.stderr)
        return
    (folder / "published").mkdir()
    for name, tensors in files.items():
        contiguous = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
        path = folder / "published" / f"{name}.safetensors"
        path.write_bytes(safetensors.numpy.save(contiguous))
