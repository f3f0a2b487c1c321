"""An ONNX file, weights inside, with any batch size; onnxruntime runs it."""

import importlib.util
from pathlib import Path

import jax
import numpy as np

from diffad_jax.export import artifact
from diffad_jax.export.artifact import Detect
from diffad_jax.export.contract import Format
from diffad_jax.export.errors import ExportError
from diffad_jax.export.graph import Model

OPSET, IR_VERSION = 18, 8  # from 2022: what onnxruntime 1.14 and later read


def write(model: Model, folder: Path) -> None:
    """Writes ``model.onnx``: ``image`` and ``seed``, which has a default, to the two outputs.

    Raises:
      ExportError: onnx is not installed; the config computes in bfloat16; the graph holds an
        operation that is not known.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ExportError("--format=onnx needs onnx: pip install 'diffad-jax[export]'")
    if model.config.training.compute_dtype != "float32":
        raise ExportError(
            f"config.training.compute_dtype = {model.config.training.compute_dtype!r}: "
            "--format=onnx computes in float32 alone; choose another format"
        )
    import onnx

    from diffad_jax.export import onnx_builder, onnx_jaxpr

    helper = onnx.helper
    weights, image, seed = model.arguments()
    closed, results = jax.make_jaxpr(model.__call__, return_shape=True)(weights, image, seed)
    builder = onnx_builder.Builder("image", image.shape[0])
    found = onnx_jaxpr.add(builder, closed, [*sorted(weights), "image", "seed"])
    outputs = [  # a dict's leaves come sorted by name
        _renamed(builder, value, name, struct)
        for value, (name, struct) in zip(found, sorted(results.items()), strict=True)
    ]
    used = {name for node in builder.nodes for name in node.input}
    tensors = [
        onnx.numpy_helper.from_array(value, name)
        for name, value in model.weights.items()
        if name in used
    ]
    default = onnx.numpy_helper.from_array(np.array(model.seed, np.uint32), "seed")
    side = model.config.image_size
    graph = helper.make_graph(
        builder.nodes,
        "diffad",
        [
            helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["b", side, side, 3]),
            helper.make_tensor_value_info("seed", onnx.TensorProto.UINT32, []),
        ],
        outputs,
        [*tensors, *builder.constants, default],
    )
    exported = helper.make_model(
        graph,
        producer_name="diffad_jax",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(exported, full_check=True)
    onnx.save(exported, folder / "model.onnx")


def _renamed(builder, value, name: str, struct: jax.ShapeDtypeStruct):
    """Gives a result its name; its description for the graph."""
    import onnx

    builder.nodes.append(onnx.helper.make_node("Identity", [builder.full(value)], [name]))
    dims = [d if isinstance(d, int) else "b" for d in struct.shape]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)


def load(folder: Path, card: dict) -> Detect:
    """See ``contract.Format``."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that the seed is an input with a default
    graph = artifact.listed(folder, card, "model.onnx")
    session = onnxruntime.InferenceSession(
        graph, options, providers=onnxruntime.get_available_providers()
    )
    names = [output.name for output in session.get_outputs()]

    def detect(image: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        inputs = {"image": image, "seed": np.array(seed, np.uint32)}
        return dict(zip(names, session.run(names, inputs), strict=True))

    return detect


FORMAT = Format(
    write,
    load,
    ("onnxruntime", "numpy", "pillow"),
    """`model.onnx` is the detector with its weights, for any number of photos at once (operator set
18). The input `seed` may be left out.
""",
)
