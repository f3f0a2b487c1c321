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

_SHARED = "shared.safetensors"  # tensors that other categories have, too
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
    own = {k: v for k, v in model.weights.items() if k not in model.common}
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(own))
    if model.common:
        shared = {name: model.weights[name] for name in model.common}
        (folder / _SHARED).write_bytes(safetensors.numpy.save(shared))


def load(folder: Path, card: dict) -> Detect:
    """See ``contract.Format``."""
    import jax
    import jax.export

    def compiled(path: Path):
        return jax.jit(jax.export.deserialize(bytearray(artifact.read(path))).call)

    def on_device(path: Path):
        return jax.device_put(artifact.read_weights(path))

    graph = artifact.once(artifact.listed(folder, card, "model.stablehlo"), compiled)
    own = artifact.once(artifact.listed(folder, card, "weights.safetensors"), on_device)
    parts = [own]
    if any(name.endswith("shared.safetensors") for name in card["files"]):
        parts.append(artifact.once(artifact.listed(folder, card, "shared.safetensors"), on_device))

    def detect(image: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        weights = {name: value for part in parts for name, value in part.value.items()}
        return jax.device_get(graph.value(weights, image, np.uint32(seed)))

    return detect


def tensors(folder: Path, card: dict) -> dict[str, jax.Array]:
    """See ``contract.Format``; those that categories have in common are in memory once."""
    found: dict[str, jax.Array] = {}
    for name in ("weights.safetensors", _SHARED):
        if any(file.endswith(name) for file in card["files"]):
            path = artifact.listed(folder, card, name)
            found |= artifact.once(path, lambda p: jax.device_put(artifact.read_weights(p))).value
    return found


FORMAT = Format(
    write,
    load,
    ("jax", "numpy", "flatbuffers", "pillow"),
    """`model.stablehlo` is the detector as StableHLO, for CPUs, CUDA GPUs and TPUs and any number
of photos at once; `weights.safetensors` holds its weights. JAX promises to load such a file for six
months; keep what it was exported from.
""",
    common=("model.stablehlo", _SHARED),
    tensors=tensors,
)
