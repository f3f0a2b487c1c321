"""JAX's operations in ONNX: for each, a function (builder, equation, inputs) -> output.

Operator set 18. Layouts stay JAX's. A convolution is transposed to NCHW and back, and onnxruntime
cancels transposes that meet.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend.core import JaxprEqn

from diffad_jax.export import onnx_layers, onnx_random
from diffad_jax.export.errors import ExportError
from diffad_jax.export.onnx_builder import Builder, Value, float32, integers

Rule = Callable[[Builder, JaxprEqn, list[Value]], Value | list[Value]]
ELEMENT_WISE = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min",
    "pow": "Pow", "rem": "Mod", "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less",
    "le": "LessOrEqual", "eq": "Equal",
}  # fmt: skip
UNARY = {
    "exp": "Exp", "log": "Log", "neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor",
    "sqrt": "Sqrt", "cos": "Cos", "sin": "Sin", "logistic": "Sigmoid", "stop_gradient": "Identity",
}  # fmt: skip


def _element_wise(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    kind = ELEMENT_WISE[eqn.primitive.name]
    if kind == "Max" and any(isinstance(x, np.ndarray) and not x.any() for x in inputs):
        inputs, kind = [x for x in inputs if isinstance(x, str)], "Relu"
    merges = kind in ("Add", "Sub", "Mul")
    if merges and (found := onnx_layers.into_convolution(b, kind, *inputs)) is not None:
        return found
    emit = functools.partial(_below, b) if kind == "Min" else functools.partial(b.op, kind)
    return _before_transposing(b, inputs, lambda _, *x: emit(*x))


def _below(b: Builder, left: Value, right: Value) -> str:
    """The smaller one; with a ReLU and a number it is one node, which convolutions absorb."""
    value, number = (left, right) if isinstance(left, str) else (right, left)
    relu = b.maker(value, "Relu")
    if relu is None or isinstance(number, str) or number.ndim:
        return b.op("Min", left, right)
    return b.op("Clip", relu.input[0], float32(0.0), number)


def _before_transposing(
    b: Builder, inputs: list[Value], emit: Callable[..., str], rank: int = 0
) -> Value:
    """The result of ``emit(order, *inputs)``. Transposes of the operands come after it instead, so
    that later transposes meet them and cancel.

    Axis i of an operand is axis ``order[i]`` of what ``emit`` sees; ``rank`` is needed if ``emit``
    needs the order.
    """
    nodes = [b.maker(x, "Transpose") for x in inputs if isinstance(x, str)]
    orders = {tuple(onnx.helper.get_node_attr_value(n, "perm")) if n else () for n in nodes}
    order = orders.pop()
    known = [x for x in inputs if not isinstance(x, str)]
    if orders or not order or any(x.ndim not in (0, len(order)) for x in known):
        return emit(tuple(range(rank)), *inputs)
    back = np.argsort(order)
    before = [b.transpose(x, back) if isinstance(x, str) or x.ndim else x for x in inputs]
    return b.transpose(emit(order, *before), order)


def _unary(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    return _before_transposing(b, inputs, lambda _, x: b.op(UNARY[eqn.primitive.name], x))


def _integer_pow(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    (x,), y = inputs, eqn.params["y"]
    return b.op("Mul", x, x) if y == 2 else b.op("Pow", x, np.array(y, eqn.invars[0].aval.dtype))


def _bits(logical: str, bitwise: str) -> Rule:
    def rule(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
        is_bool = eqn.outvars[0].aval.dtype == bool
        return b.op(logical if is_bool else bitwise, *inputs)

    return rule


def _rsqrt(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    return b.op("Reciprocal", b.op("Sqrt", *inputs))


def _convert(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Value:
    return _cast(b, *inputs, eqn.params["new_dtype"], eqn.invars[0].aval.dtype)


def _cast(b: Builder, value: Value, dtype: Any, old: Any = None) -> Value:
    if old == dtype:
        return value
    return b.op("Cast", value, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _select(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    which, if_false, if_true = inputs
    return b.op("Where", which, if_true, if_false)


def _reshape(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    return b.reshape(inputs[0], shape(eqn.outvars[0].aval))


def _broadcast(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    old, new = shape(eqn.invars[0].aval), shape(eqn.outvars[0].aval)
    return b.broadcast(inputs[0], old, new, eqn.params["broadcast_dimensions"])


def _transpose(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Value:
    return b.transpose(*inputs, eqn.params["permutation"])


def _concatenate(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Value:
    axis = eqn.params["dimension"]
    kept = [x for v, x in zip(eqn.invars, inputs, strict=True) if v.aval.shape[axis] != 0]
    if len(kept) == 1:
        return kept[0]
    rank = len(eqn.outvars[0].aval.shape)
    return _before_transposing(
        b, kept, lambda order, *x: b.op("Concat", *x, axis=order[axis]), rank
    )


def _pad(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Value:
    (value, filler), sizes = inputs, eqn.params["padding_config"]
    if any(low < 0 or high < 0 or inner for low, high, inner in sizes):
        raise ExportError("--format=onnx knows no padding that cuts off or spreads")

    def emit(order: Sequence[int], x: str) -> str:
        lows, highs = ([sizes[order.index(i)][k] for i in range(len(sizes))] for k in (0, 1))
        return b.op("Pad", x, integers([*lows, *highs]), filler)

    return _before_transposing(b, [value], emit, len(sizes))


def _stack(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    axis, old = eqn.params["axis"], eqn.invars[0].aval.shape
    parts = [b.reshape(x, (*old[:axis], 1, *old[axis:])) for x in inputs]
    return b.op("Concat", *parts, axis=axis)


def _slice(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    p, old = eqn.params, eqn.invars[0].aval.shape
    strides = p["strides"] or (1,) * len(old)
    return _cut(b, inputs[0], p["start_indices"], p["limit_indices"], strides, old)


def _cut(b: Builder, value: Value, starts: Sequence, ends: Sequence, strides: Sequence,
         old: Sequence) -> str:  # fmt: skip
    """A slice; whole axes, which may depend on the batch size, are left alone."""
    axes = [
        i for i, n in enumerate(old) if not (starts[i] == 0 and ends[i] == n and strides[i] == 1)
    ]
    if not axes:
        return value
    parts = [integers(_place(values[i], old[i]) for i in axes) for values in (starts, ends)]
    return b.op("Slice", value, *parts, integers(axes), integers(strides[i] for i in axes))


def _place(place: Any, size: Any) -> int:
    """A place on an axis as a number, counted from the end where it depends on the batch."""
    if isinstance(place, int):
        return place
    from_end = size - place
    if not isinstance(from_end, int):
        raise ExportError("--format=onnx knows no slice at places that depend on the batch")
    return -from_end if from_end else np.iinfo(np.int64).max


def _is_finite(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    zero = b.op("Sub", *inputs, *inputs)  # of what is not finite NaN, which equals nothing
    return b.op("Equal", zero, zero)


def _split(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> list[str]:
    sizes, axis = eqn.params["sizes"], eqn.params["axis"]
    return b.op("Split", *inputs, integers(sizes), outputs=len(sizes), axis=axis)


def _gather(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Value:
    """x[..., i] at a known i, and x[:, i] or x[i, j] at indices of any shape."""
    (operand, where), p, numbers = inputs, eqn.params, eqn.params["dimension_numbers"]
    old, new, axes = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape, numbers.start_index_map
    if isinstance(where, np.ndarray) and where.ndim == 1:
        starts = [0] * len(old)
        for axis, start in zip(axes, where.tolist(), strict=True):
            starts[axis] = start
        ends = [s + n for s, n in zip(starts, p["slice_sizes"], strict=True)]
        return b.reshape(_cut(b, operand, starts, ends, (1,) * len(old), old), new)
    indices = eqn.invars[1].aval.shape[:-1]
    batch = [i for i in range(len(new)) if i not in numbers.offset_dims]
    rest = all(n == old[i] for i, n in enumerate(p["slice_sizes"]) if i not in axes)
    if rest and tuple(axes) == numbers.collapsed_slice_dims:
        if len(axes) == 1 and batch == list(range(axes[0], axes[0] + len(indices))):
            return b.op("Gather", operand, b.reshape(where, indices), axis=axes[0])
        if axes == tuple(range(len(axes))) and batch == list(range(len(indices))):
            where = b.op("Cast", where, to=onnx.TensorProto.INT64)
            return b.op("GatherND", operand, where)
    raise ExportError("--format=onnx knows array[..., i], array[:, indices] and array[i, j] alone")


def _iota(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Value:
    aval = eqn.outvars[0].aval
    if len(aval.shape) != 1:
        raise ExportError("--format=onnx knows no iota of several axes that depend on the batch")
    end, zero, one = b.reshape(b.sizes(aval.shape), ()), np.array(0), np.array(1)
    return _cast(b, b.op("Range", zero, end, one), aval.dtype)


def _dim_as_value(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Value:
    size = b.reshape(b.sizes([eqn.params["dim"]]), ())
    return _cast(b, size, eqn.outvars[0].aval.dtype)


def _reduce(kind: str) -> Rule:
    return lambda b, eqn, inputs: b.op(kind, *inputs, integers(eqn.params["axes"]), keepdims=0)


def _arg(kind: str) -> Rule:
    def rule(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
        (axis,) = eqn.params["axes"]
        return _cast(b, b.op(kind, *inputs, axis=axis, keepdims=0), eqn.params["index_dtype"])

    return rule


def _sort(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
    """Sorts by the first operand; TopK takes the first of equal ones, so the sort is stable."""
    axis, shape = eqn.params["dimension"], eqn.invars[0].aval.shape
    key = eqn.invars[0].aval.dtype
    if eqn.params["num_keys"] != 1 or key != np.float32:
        raise ExportError(f"--format=onnx does not know how to sort {key}")
    count = b.sizes([shape[axis]])
    _, order = b.op("TopK", inputs[0], count, axis=axis, largest=0, outputs=2)
    return [b.op("GatherElements", x, order, axis=axis) for x in inputs]


def _dot(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Value:
    (left_summed, right_summed), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, right = inputs
    left_free, right_free = (
        [i for i in range(len(v.aval.shape)) if i not in (*summed, *batch)]
        for v, summed, batch in zip(eqn.invars, (left_summed, right_summed),
                                    (left_batch, right_batch), strict=True)
    )  # fmt: skip
    if len(left_summed) == 1 and len(right_free) == 1 and (not left_batch or len(left_free) == 1):
        left = b.transpose(left, (*left_batch, *left_free, *left_summed))
        return b.op("MatMul", left, b.transpose(right, (*right_batch, *right_summed, *right_free)))
    if len(left_summed) == 1 and len(left_free) == 1 and not left_batch:
        right = b.transpose(right, (*right_free, *right_summed))
        found = b.op("MatMul", right, b.transpose(left, (*left_summed, *left_free)))
        last = len(right_free)
        return b.transpose(found, (last, *range(last)))
    # Several axes become one, and again several in the result.
    old = [v.aval.shape for v in eqn.invars]
    batch = [old[0][i] for i in left_batch]
    rows, columns = [old[0][i] for i in left_free], [old[1][i] for i in right_free]
    inner = math.prod(old[0][i] for i in left_summed)
    left = b.transpose(left, (*left_batch, *left_free, *left_summed))
    right = b.transpose(right, (*right_batch, *right_summed, *right_free))
    left = b.reshape(left, (*batch, math.prod(rows), inner))
    right = b.reshape(right, (*batch, inner, math.prod(columns)))
    return b.reshape(b.op("MatMul", left, right), (*batch, *rows, *columns))


def shape(aval: Any) -> tuple:
    """The shape of an array; a random key has the shape of its two numbers."""
    return (
        (*aval.shape, 2) if jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key) else aval.shape
    )


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENT_WISE, _element_wise),
    **dict.fromkeys(UNARY, _unary),
    "ne": lambda b, eqn, inputs: b.op("Not", b.op("Equal", *inputs)),
    "and": _bits("And", "BitwiseAnd"),
    "or": _bits("Or", "BitwiseOr"),
    "xor": _bits("Xor", "BitwiseXor"),
    "rsqrt": _rsqrt,
    "square": lambda b, eqn, inputs: b.op("Mul", *inputs, *inputs),
    "integer_pow": _integer_pow,
    "is_finite": _is_finite,
    "convert_element_type": _convert,
    "select_n": _select,
    "reshape": _reshape,
    "squeeze": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "pad": _pad,
    "stack": _stack,
    "slice": _slice,
    "split": _split,
    "gather": _gather,
    "iota": _iota,
    "dim_as_value": _dim_as_value,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "sort": _sort,
    "dot_general": _dot,
}
RULES |= onnx_random.rules() | onnx_layers.rules()
# By the name of a function that is not inlined.
FUNCTIONS: dict[str, Rule] = {
    "_group_norm": onnx_layers.group_norm,
    "error_function": lambda b, eqn, inputs: b.op("Erf", *inputs),
}
