"""JAX's operations in ONNX: for each, a function (builder, equation, inputs) -> output.

Operator set 18. Layouts stay JAX's; a convolution is transposed to NCHW and back, and onnxruntime
cancels what meets.
"""

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax.extend.core import JaxprEqn

from diffad_jax.export.errors import ExportError
from diffad_jax.export.onnx_builder import Builder, Value, integers

Rule = Callable[[Builder, JaxprEqn, list[Value]], Value | list[Value]]
ELEMENT_WISE = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min",
    "pow": "Pow", "rem": "Mod", "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less",
    "le": "LessOrEqual",
}  # fmt: skip
_UNARY = {
    "exp": "Exp", "neg": "Neg", "cos": "Cos", "sin": "Sin", "logistic": "Sigmoid",
    "stop_gradient": "Identity",
}  # fmt: skip


def _element_wise(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    return b.op(ELEMENT_WISE[eqn.primitive.name], *inputs)


def _unary(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    return b.op(_UNARY[eqn.primitive.name], *inputs)


def _bits(logical: str, bitwise: str) -> Rule:
    def rule(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
        is_bool = eqn.outvars[0].aval.dtype == bool
        return b.op(logical if is_bool else bitwise, *inputs)

    return rule


def _shift(direction: str) -> Rule:
    return lambda b, eqn, inputs: b.op("BitShift", *inputs, direction=direction)


def _rsqrt(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    return b.op("Reciprocal", b.op("Sqrt", *inputs))


def _erf_inv(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    """Giles 2012, single precision, which is XLA's as well."""
    (x,) = inputs
    w = b.op("Neg", b.op("Log", b.op("Sub", _float(1.0), b.op("Mul", x, x))))
    central = [2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
               -0.00125372503, -0.00417768164, 0.246640727, 1.50140941]  # fmt: skip
    tail = [-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
            -0.0076224613, 0.00943887047, 1.00167406, 2.83297682]  # fmt: skip

    def polynomial(coefficients: list[float], w: str) -> str:
        total: Value = _float(coefficients[0])
        for c in coefficients[1:]:
            total = b.op("Add", b.op("Mul", total, w), _float(c))
        return total

    p = b.op(
        "Where",
        b.op("Less", w, _float(5.0)),
        polynomial(central, b.op("Sub", w, _float(2.5))),
        polynomial(tail, b.op("Sub", b.op("Sqrt", w), _float(3.0))),
    )
    return b.op("Mul", p, x)


def _convert(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    dtype = np.dtype(eqn.params["new_dtype"])
    return b.op("Cast", *inputs, to=onnx.helper.np_dtype_to_tensor_dtype(dtype))


def _bitcast(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    """uint32 to a float32 in [1, 2): the only use, inside jax.random.uniform.

    Before operator set 26 ONNX has no such operation, so the 23 bits of the fraction are counted.
    """
    fraction = b.op("BitwiseAnd", *inputs, np.array(0x7FFFFF, np.uint32))
    fraction = b.op("Cast", fraction, to=onnx.TensorProto.FLOAT)
    return b.op("Add", b.op("Mul", fraction, _float(2.0**-23)), _float(1.0))


def _select(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    which, if_false, if_true = inputs
    return b.op("Where", which, if_true, if_false)


def _reshape(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    return b.reshape(inputs[0], shape(eqn.outvars[0].aval))


def _broadcast(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    old, new = shape(eqn.invars[0].aval), shape(eqn.outvars[0].aval)
    return b.broadcast(inputs[0], old, new, eqn.params["broadcast_dimensions"])


def _transpose(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    return b.op("Transpose", *inputs, perm=eqn.params["permutation"])


def _concatenate(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    return b.op("Concat", *inputs, axis=eqn.params["dimension"])


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
    parts = [integers(values[i] for i in axes) for values in (starts, ends)]
    return b.op("Slice", value, *parts, integers(axes), integers(strides[i] for i in axes))


def _split(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> list[str]:
    sizes, axis = eqn.params["sizes"], eqn.params["axis"]
    return b.op("Split", *inputs, integers(sizes), outputs=len(sizes), axis=axis)


def _gather(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    """x[..., i] at a known i, or table[t]."""
    (operand, where), p = inputs, eqn.params
    old, new, numbers = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape, p["dimension_numbers"]
    if isinstance(where, np.ndarray) and where.ndim == 1:
        starts = [0] * len(old)
        for axis, start in zip(numbers.start_index_map, where.tolist(), strict=True):
            starts[axis] = start
        ends = [s + n for s, n in zip(starts, p["slice_sizes"], strict=True)]
        return b.reshape(_cut(b, operand, starts, ends, (1,) * len(old), old), new)
    if len(old) == 1 and len(new) == 1:
        return b.op("Gather", operand, b.reshape(where, new))
    raise ExportError("--format=onnx knows array[..., i] at a constant i, and table[t], alone")


def _reduce(kind: str) -> Rule:
    return lambda b, eqn, inputs: b.op(kind, *inputs, integers(eqn.params["axes"]), keepdims=0)


def _window_sum(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    """Sums over a window of a [b, h, w] map, zeros beyond its border."""
    p, old = eqn.params, eqn.invars[0].aval.shape
    begins, ends = zip(*p["padding"][1:], strict=True)
    mean = b.op(
        "AveragePool",
        b.reshape(inputs[0], (old[0], 1, *old[1:])),
        kernel_shape=p["window_dimensions"][1:],
        pads=(*begins, *ends),
        strides=p["window_strides"][1:],
        count_include_pad=1,
    )
    total = b.op("Mul", mean, _float(math.prod(p["window_dimensions"])))
    return b.reshape(total, eqn.outvars[0].aval.shape)


def _conv(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    p = eqn.params
    image, kernel, out = p["dimension_numbers"]
    begins, ends = zip(*p["padding"], strict=True)
    result = b.op(
        "Conv",
        b.op("Transpose", inputs[0], perm=image),
        b.op("Transpose", inputs[1], perm=kernel),
        strides=p["window_strides"],
        pads=(*begins, *ends),
        group=p["feature_group_count"],
    )
    return b.op("Transpose", result, perm=np.argsort(out).tolist())


def _dot(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    (left_summed, right_summed), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    letters = iter(string.ascii_letters)
    left, right = ([next(letters) for _ in v.aval.shape] for v in eqn.invars)
    for i, j in zip((*left_summed, *left_batch), (*right_summed, *right_batch), strict=True):
        right[j] = left[i]
    out = [left[i] for i in left_batch]
    out += [x for i, x in enumerate(left) if i not in (*left_summed, *left_batch)]
    out += [x for j, x in enumerate(right) if j not in (*right_summed, *right_batch)]
    equation = f"{''.join(left)},{''.join(right)}->{''.join(out)}"
    return b.op("Einsum", *inputs, equation=equation)


def _random_seed(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    seed = b.reshape(inputs[0], (1,))
    return b.op("Concat", np.zeros(1, np.uint32), seed, axis=0)


def shape(aval: Any) -> tuple:
    """Of an array; that of a random key is of the two numbers which make it."""
    return (
        (*aval.shape, 2) if jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key) else aval.shape
    )


def threefry(key: jax.Array, counts: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 in 20 rounds (Salmon et al. 2011) of (0, count), which is jax.random's.

    Args:
      key: [2] uint32.
      counts: any shape, uint32.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = jnp.zeros_like(counts) + keys[0], counts + keys[1]
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = ((y << np.uint32(turn)) | (y >> np.uint32(32 - turn))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def _float(value: float) -> np.ndarray:
    return np.array(value, np.float32)


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENT_WISE, _element_wise),
    **dict.fromkeys(_UNARY, _unary),
    "and": _bits("And", "BitwiseAnd"),
    "or": _bits("Or", "BitwiseOr"),
    "xor": _bits("Xor", "BitwiseXor"),
    "shift_left": _shift("LEFT"),
    "shift_right_logical": _shift("RIGHT"),
    "rsqrt": _rsqrt,
    "erf_inv": _erf_inv,
    "convert_element_type": _convert,
    "bitcast_convert_type": _bitcast,
    "select_n": _select,
    "reshape": _reshape,
    "squeeze": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "slice": _slice,
    "split": _split,
    "gather": _gather,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_window_sum": _window_sum,
    "conv_general_dilated": _conv,
    "dot_general": _dot,
    "random_seed": _random_seed,
}
