"""StableHLO for CPUs, CUDA GPUs and TPUs with any batch size; weights beside it as safetensors."""

from pathlib import Path

import jax
import safetensors.numpy

from diffad_jax.export.errors import ExportError
from diffad_jax.export.graph import Model

RUNTIME = ("jax", "numpy", "flatbuffers", "pillow")
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
