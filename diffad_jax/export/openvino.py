"""OpenVINO's IR, made of the ONNX file: weights as float16, computed in float32."""

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from diffad_jax.export import artifact, onnx
from diffad_jax.export.artifact import Detect
from diffad_jax.export.contract import Format
from diffad_jax.export.errors import ExportError
from diffad_jax.export.graph import Model


def write(model: Model, folder: Path) -> None:
    """Writes ``model.xml`` and ``model.bin``: ``image`` to the two outputs.

    Raises:
      ExportError: openvino or onnx is not installed; see ``onnx.write``.
    """
    _convert(lambda temporary: onnx.write(model, temporary), folder)


def write_int8(model: Model, folder: Path, photos: np.ndarray) -> None:
    """The same with convolutions in 8 bits, see ``contract.Format`` and ``onnx.write_int8``."""
    _convert(lambda temporary: onnx.write_int8(model, temporary, photos, signed=True), folder)


def _convert(write_onnx: Callable[[Path], None], folder: Path) -> None:
    if importlib.util.find_spec("openvino") is None:
        raise ExportError("--format=openvino needs OpenVINO: pip install 'diffad-jax[openvino]'")
    sys.modules.setdefault("openvino_telemetry", None)  # see ``load``
    import openvino

    with tempfile.TemporaryDirectory() as temporary:
        write_onnx(Path(temporary))
        graph = openvino.Core().read_model(Path(temporary) / "model.onnx")
        openvino.save_model(graph, folder / "model.xml", compress_to_fp16=True)


def load(folder: Path, card: dict) -> Detect:
    """See ``contract.Format``."""
    import sys

    # Without this module, importing OpenVINO does not report to its makers (from a forked process).
    sys.modules.setdefault("openvino_telemetry", None)
    import openvino

    graph, _ = (artifact.listed(folder, card, f"model.{end}") for end in ("xml", "bin"))
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # by default bfloat16, where the processor can
    compiled = openvino.Core().compile_model(graph, "CPU", exact)

    def detect(image: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        found = compiled({"image": image})
        return {name: found[name] for name in ("score", "anomaly_map")}

    return detect


FORMAT = Format(
    write,
    load,
    ("openvino", "numpy", "pillow"),
    """`model.xml` and `model.bin` are the detector as OpenVINO's IR, for any number of photos at
once. Its weights are float16, and `run.py` computes in float32 on the CPU; the threshold was chosen
with it. What the method draws is inside, as the seed of `model.json` gives it. `run.py` keeps
OpenVINO from reporting its use to its makers.
""",
    takes_seed=False,
    dtype="float32",
    exact=False,
    write_int8=write_int8,
)
