"""StableHLO for CPUs, CUDA GPUs and TPUs with any batch size; weights beside it as safetensors."""

from pathlib import Path

import jax
import numpy as np
import safetensors.numpy

from diffad_jax.export import artifact
from diffad_jax.export.artifact import Detect
from diffad_jax.export.contract import Format
from diffad_jax.export.errors import ExportError
from diffad_jax.export.graph import Model

PLATFORMS = ("cpu", "cuda", "tpu")


def write(model: Model, folder: Path) -> None:
    """Writes ``model.stablehlo``, which takes the tensors of ``weights.safetensors``.

    Raises:
      ExportError: flatbuffers is not installed.
    """
    try:
        import flatbuffers as flatbuffers  # jax.export needs it without asking for it
    except ImportError as error:
        raise ExportError(
            "--format=stablehlo needs flatbuffers: pip install 'diffad-jax[export]'"
        ) from error
    exported = jax.export.export(jax.jit(model.__call__), platforms=PLATFORMS)(*model.arguments())
    (folder / "model.stablehlo").write_bytes(exported.serialize())
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(model.weights))


def load(folder: Path, card: dict) -> Detect:
    """See ``contract.Format``."""
    import jax
    import jax.export

    data = artifact.read(artifact.listed(folder, card, "model.stablehlo"))
    weights = artifact.read_weights(artifact.listed(folder, card, "weights.safetensors"))
    call, weights = jax.jit(jax.export.deserialize(bytearray(data)).call), jax.device_put(weights)

    def detect(image: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        return jax.device_get(call(weights, image, np.uint32(seed)))

    return detect


FORMAT = Format(
    write,
    load,
    ("jax", "numpy", "flatbuffers", "pillow"),
    """`model.stablehlo` is the detector as StableHLO, for CPUs, CUDA GPUs and TPUs and any number
of photos at once; `weights.safetensors` holds its weights. JAX promises to load such a file for six
months; keep what it was exported from.
""",
)
