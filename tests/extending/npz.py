"""An example of an export format: the weights in one NumPy file."""

from pathlib import Path

import numpy as np

from diffad_jax.export.contract import Format
from diffad_jax.export.graph import Model


def write(model: Model, folder: Path) -> None:
    """Writes ``weights.npz``."""
    np.savez(folder / "weights.npz", **model.weights)


FORMAT = Format(write, None, ("numpy",), "`weights.npz` holds the weights. There is no graph.\n")
