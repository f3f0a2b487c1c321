"""Collects the nodes and constants of an ONNX graph.

A value is a NumPy array where it is known at export, else the name of an ONNX value.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx

from diffad_jax.export.errors import ExportError

Value = np.ndarray | str
Shape = Sequence[Any]  # of int, or a multiple of the symbolic batch size


class Builder:
    """An ONNX graph in the making.

    Args:
      image: the name of the graph's input whose first axis is the batch.
      batch: the batch size as JAX's symbolic dimension.
    """

    def __init__(self, image: str, batch: Any):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._batch = batch
        self._names: dict[tuple, str] = {}  # of the constants, by type, shape and bytes
        self._narrow: dict[str, Shape] = {}  # values that ``full`` still has to repeat
        self._batch_size = self.op("Shape", image, start=0, end=1)

    def op(self, kind: str, *inputs: Value, outputs: int = 1, **attributes) -> Any:
        """Adds a node; gives its output, or a list of several."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        inputs = [self.named(value) for value in inputs]
        self.nodes.append(onnx.helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def named(self, value: Value) -> str:
        """The value's name; a known one becomes a constant."""
        if isinstance(value, str):
            return value
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._names:
            self._names[key] = f"c{len(self.constants)}"
            self.constants.append(onnx.numpy_helper.from_array(value, self._names[key]))
        return self._names[key]

    def reshape(self, value: Value, shape: Shape) -> str:
        """At most one of the new dimensions may depend on the batch size."""
        return self.op("Reshape", value, integers(d if isinstance(d, int) else -1 for d in shape))

    def broadcast(self, value: Value, old: Shape, new: Shape, axes: Sequence[int]) -> str:
        """Axis i of ``old`` becomes axis ``axes[i]`` of ``new``; the rest is repeated.

        Element-wise operations repeat by themselves, so this waits for one that does not.
        """
        narrow: list[Any] = [1] * len(new)
        for axis, size in zip(axes, old, strict=True):
            narrow[axis] = size
        value = self.reshape(value, narrow)
        if tuple(narrow) != tuple(new):
            self._narrow[value] = new
        return value

    def is_full(self, value: Value) -> bool:
        """Whether a value has its whole shape, without the help of ``full``."""
        return not isinstance(value, str) or value not in self._narrow

    def full(self, value: Value) -> Value:
        """The value in its whole shape."""
        if self.is_full(value):
            return value
        return self.op("Expand", value, self._vector(self._narrow[value]))

    def _vector(self, shape: Shape) -> Value:
        """A shape as int64."""
        if all(isinstance(d, int) for d in shape):
            return integers(shape)
        parts = [
            integers([d])
            if isinstance(d, int)
            else self.op("Mul", self._batch_size, integers([self._factor(d)]))
            for d in shape
        ]
        return self.op("Concat", *parts, axis=0)

    def _factor(self, dimension: Any) -> int:
        """k of a dimension k · b."""
        factor = dimension // self._batch
        if not isinstance(factor, int) or factor * self._batch != dimension:
            raise ExportError(f"--format=onnx knows no dimension of {dimension} for b photos")
        return factor


def integers(values: Iterable[int]) -> np.ndarray:
    return np.array(list(values), np.int64)
