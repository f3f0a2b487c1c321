"""Collects the nodes and constants of an ONNX graph.

A value is an array where it is known at export, else the name of an ONNX value. An array may be
narrow: it has size 1 along axes that element-wise operations repeat by themselves.
"""

import hashlib
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
        self.batch = batch
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: dict[tuple, str] = {}  # of the constants, by type, shape and checksum
        self._narrow: dict[str, Shape] = {}  # values that ``full`` still has to repeat
        self._makers: dict[str, onnx.NodeProto] = {}  # by output
        self._batch_size = self.op("Shape", image, start=0, end=1)

    def op(self, kind: str, *inputs: Value, outputs: int = 1, **attributes) -> Any:
        """Adds a node; gives its output, or a list of several."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        inputs = [self.named(value) for value in inputs]
        self.nodes.append(onnx.helper.make_node(kind, inputs, names, **attributes))
        self._makers |= dict.fromkeys(names, self.nodes[-1])
        return names[0] if outputs == 1 else names

    def maker(self, value: Value, kind: str) -> onnx.NodeProto | None:
        """The node of this kind that gives a value, if there is one."""
        node = self._makers.get(value) if isinstance(value, str) else None
        return node if node is not None and node.op_type == kind else None

    def named(self, value: Value) -> str:
        """The value's name; a known value becomes a constant."""
        if isinstance(value, str):
            return value
        value = np.ascontiguousarray(value).reshape(value.shape)
        key = (value.dtype.str, value.shape, hashlib.sha256(value).digest())
        if key not in self._names:
            self._names[key] = name = f"c{len(self._constants)}"
            self._constants[name] = onnx.numpy_helper.from_array(value, name)
        return self._names[key]

    def constant(self, name: str) -> np.ndarray | None:
        """A known value by its name."""
        found = self._constants.get(name)
        return None if found is None else onnx.numpy_helper.to_array(found)

    def used(self, outputs: Iterable[str]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The nodes and constants that the outputs depend on."""
        needed, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                nodes.append(node)
        return nodes[::-1], [c for name, c in self._constants.items() if name in needed]

    def reshape(self, value: Value, shape: Shape) -> Value:
        """At most one of the new dimensions may depend on the batch size."""
        sizes = [d if isinstance(d, int) else -1 for d in shape]
        if isinstance(value, str):
            while node := self.maker(value, "Reshape"):  # only the last shape matters
                value = node.input[0]
            return self.op("Reshape", value, integers(sizes))
        return value.reshape(sizes)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Axis i of the result is axis ``order[i]`` of the value."""
        order = [int(i) for i in order]
        if node := self.maker(value, "Transpose"):
            before = onnx.helper.get_node_attr_value(node, "perm")
            return self.transpose(node.input[0], [before[i] for i in order])
        if order == sorted(order):
            return value
        if isinstance(value, str):
            return self.op("Transpose", value, perm=order)
        return value.transpose(order)

    def broadcast(self, value: Value, old: Shape, new: Shape, axes: Sequence[int]) -> Value:
        """Axis i of ``old`` becomes axis ``axes[i]`` of ``new``; the rest is repeated.

        Element-wise operations repeat by themselves, so this waits for one that does not.
        """
        narrow: list[Any] = [1] * len(new)
        if isinstance(value, str):
            for axis, size in zip(axes, old, strict=True):
                narrow[axis] = size
            value = self.reshape(value, narrow)
            if tuple(narrow) != tuple(new):
                self._narrow[value] = new
            return value
        for axis, size in zip(axes, value.shape, strict=True):
            narrow[axis] = size
        return value.reshape(narrow)

    def is_full(self, value: Value, shape: Shape) -> bool:
        """Whether a value has its whole shape without ``full``."""
        if isinstance(value, str):
            return value not in self._narrow
        return value.shape == tuple(shape)

    def full(self, value: Value, shape: Shape) -> Value:
        """The value in its whole shape."""
        if self.is_full(value, shape):
            return value
        if not isinstance(value, str) and all(isinstance(d, int) for d in shape):
            return np.broadcast_to(value, shape)
        return self.op("Expand", value, self.sizes(shape))

    def sizes(self, shape: Shape) -> Value:
        """A shape as int64."""
        if all(isinstance(d, int) for d in shape):
            return integers(shape)
        parts = [
            integers([d])
            if isinstance(d, int)
            else self.op("Mul", self._batch_size, integers([self._factor(d)]))
            for d in shape
        ]
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=0)

    def at_one(self, dimension: Any) -> int:
        """A dimension where there is one photo."""
        return dimension if isinstance(dimension, int) else self._factor(dimension)

    def _factor(self, dimension: Any) -> int:
        """k of a dimension k · b."""
        factor = dimension // self.batch
        if not isinstance(factor, int) or factor * self.batch != dimension:
            raise ExportError(f"--format=onnx knows no dimension of {dimension} for b photos")
        return factor


def integers(values: Iterable[int]) -> np.ndarray:
    return np.array(list(values), np.int64)


def float32(value: float) -> np.ndarray:
    return np.array(value, np.float32)
