"""An ONNX file, weights inside, with any batch size; onnxruntime runs it."""

import functools
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen
import jax
import numpy as np

from diffad_jax.export import artifact
from diffad_jax.export.artifact import Detect
from diffad_jax.export.contract import Format
from diffad_jax.export.errors import ExportError
from diffad_jax.export.graph import Model
from diffad_jax.models import efficientnet_lite, layers

OPSET, IR_VERSION = 18, 8  # from 2022: what onnxruntime 1.14 and later read


def write(model: Model, folder: Path, seeded: bool = False) -> None:
    """Writes ``model.onnx``: ``image`` to the two outputs.

    The method's random numbers are constants in the graph, from the default seed. With ``seeded``
    the graph draws them itself, from a second input ``seed``.

    Raises:
      ExportError: onnx is not installed; the graph holds an operation that is not known.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ExportError("--format=onnx needs onnx: pip install 'diffad-jax[export]'")
    import onnx

    from diffad_jax.export import onnx_builder, onnx_jaxpr

    helper = onnx.helper
    weights, image, seed = model.arguments()
    with flax.linen.intercept_methods(_whole):
        closed, results = jax.make_jaxpr(model.__call__, return_shape=True)(weights, image, seed)
    builder = onnx_builder.Builder("image", image.shape[0])
    arrays = [model.weights[name] for name in sorted(weights)]
    drawn_from = "seed" if seeded else np.array(model.seed, np.uint32)
    found = onnx_jaxpr.add(builder, closed, [*arrays, "image", drawn_from])
    outputs = [  # a dict's leaves come sorted by name
        _renamed(builder, value, name, struct)
        for value, (name, struct) in zip(found, sorted(results.items()), strict=True)
    ]
    nodes, constants = builder.used(results)
    shape = ["b", *image.shape[1:]]
    inputs = [helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, shape)]
    if seeded:
        inputs.append(helper.make_tensor_value_info("seed", onnx.TensorProto.UINT32, []))
    exported = helper.make_model(
        helper.make_graph(nodes, "diffad_jax", inputs, outputs, constants),
        producer_name="diffad_jax",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(exported, full_check=True)
    onnx.save(exported, folder / "model.onnx")


def write_int8(model: Model, folder: Path, photos: np.ndarray, signed: bool = False) -> None:
    """Writes ``model.onnx`` with convolutions in 8 bits, see ``contract.Format``.

    ``signed`` is as for ``onnx_int8.quantize``.

    Raises:
      ExportError: onnxruntime is not installed; see ``write``.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ExportError("--quantize=int8 needs onnxruntime: pip install 'diffad-jax[export]'")
    with tempfile.TemporaryDirectory() as temporary:
        write(model, Path(temporary))
        from diffad_jax.export import onnx_int8

        onnx_int8.quantize(Path(temporary) / "model.onnx", folder / "model.onnx", photos, signed)


def _whole(next_function: Callable, args: tuple, kwargs: dict, context: Any):
    """Keeps a layer whole: ONNX needs a few nodes for it, JAX many small operations."""
    module, is_call = context.module, context.method_name == "__call__"
    if is_call and isinstance(module, layers.GroupNorm):
        scale, bias = (module.get_variable("params", name) for name in ("scale", "bias"))
        groups = layers.num_groups(args[0].shape[-1])
        found = _group_norm(args[0].astype(np.float32), scale, bias, groups, module.epsilon)
        return found.astype(module.dtype)
    if is_call and isinstance(module, efficientnet_lite.Depthwise) and not module.is_initializing():
        kernel, bias = (module.get_variable("params", name) for name in ("kernel", "bias"))
        return module.convolved(*args, kernel, bias, efficientnet_lite.grouped)
    return next_function(*args, **kwargs)


@jax.jit
def _group_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, epsilon: float):
    """Known to ``onnx_ops.FUNCTIONS``; only the shape of its result counts here."""
    del scale, bias, groups, epsilon
    return x


def _renamed(builder, value, name: str, struct: jax.ShapeDtypeStruct):
    """Gives a result its name; its description for the graph."""
    import onnx

    value = builder.named(builder.full(value, struct.shape))
    builder.nodes.append(onnx.helper.make_node("Identity", [value], [name]))
    dims = [d if isinstance(d, int) else "b" for d in struct.shape]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)


def load(folder: Path, card: dict) -> Detect:
    """See ``contract.Format``."""
    import os

    import onnxruntime

    graph = artifact.listed(folder, card, "model.onnx")
    options = onnxruntime.SessionOptions()
    if hasattr(os, "sched_getaffinity"):  # not of Windows and macOS
        # By default it starts a thread for each core of the machine; threads without a core spin.
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
    providers = onnxruntime.get_available_providers()
    session = onnxruntime.InferenceSession(graph, options, providers=providers)
    names = [output.name for output in session.get_outputs()]

    def detect(image: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        inputs = {"image": image}
        if "seed" in card["inputs"]:
            inputs["seed"] = np.array(seed, np.uint32)
        return dict(zip(names, session.run(names, inputs), strict=True))

    return detect


_README = """`model.onnx` is the detector with its weights, for any number of photos at once
(operator set 18). """

FORMAT = Format(
    write,
    load,
    ("onnxruntime", "numpy", "pillow"),
    _README + "What the method draws is inside, as the seed of `model.json` gives it.\n",
    takes_seed=False,
    dtype="float32",
    write_int8=write_int8,
)
SEEDED = FORMAT._replace(
    write=functools.partial(write, seeded=True),
    write_int8=None,
    readme=_README + "The input `seed` is of what the method draws.\n",
    takes_seed=True,
)
