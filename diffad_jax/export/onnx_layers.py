"""The layers of networks in ONNX: convolutions, windows, group normalisation."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from jax.extend.core import JaxprEqn

from diffad_jax.export.onnx_builder import Builder, Value, float32


def rules() -> dict[str, Any]:
    """A rule for each of JAX's operations, see ``onnx_ops.Rule``."""
    return {
        "reduce_window_sum": _window("AveragePool"),
        "reduce_window_max": _window("MaxPool"),
        "conv_general_dilated": _conv,
    }


def _conv(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Value:
    p = eqn.params
    image, kernel, out = p["dimension_numbers"]
    begins, ends = zip(*p["padding"], strict=True)
    result = b.op(
        "Conv",
        b.transpose(inputs[0], image),
        b.transpose(inputs[1], kernel),
        strides=p["window_strides"],
        pads=(*begins, *ends),
        dilations=p["rhs_dilation"],
        group=p["feature_group_count"],
    )
    return b.transpose(result, np.argsort(out))


def into_convolution(b: Builder, kind: str, left: Value, right: Value) -> Value | None:
    """Merges a sum, difference or product by channel into the convolution before it."""
    value, number = (left, right) if isinstance(left, str) else (right, left)
    turned = b.maker(value, "Transpose")
    conv = turned and b.maker(turned.input[0], "Conv")
    if not conv or isinstance(number, str):
        return None
    order = onnx.helper.get_node_attr_value(turned, "perm")
    image, *before = conv.input
    kernel, *bias = (b.constant(name) for name in before)
    fits = kernel is not None and number.shape[-1:] == (number.size,) == kernel.shape[:1]
    if not fits or order[-1] != 1 or (kind == "Sub" and value is not left):
        return None
    number, bias = number.reshape(-1), bias[0] if bias else np.zeros(number.size, np.float32)
    if kind == "Mul":
        kernel, bias = kernel * number.reshape(-1, 1, 1, 1), bias * number
    else:
        bias = bias + number if kind == "Add" else bias - number
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in conv.attribute}
    return b.transpose(b.op("Conv", image, kernel, bias, **settings), order)


def _window(kind: str) -> Callable[..., Value]:
    """Maxima or sums over windows of a [b, h, w] or [b, h, w, c] map; sums see zeros outside."""

    def rule(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Value:
        p, old, new = eqn.params, eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
        has_channels = len(old) == 4
        size, begins_ends = p["window_dimensions"][1:3], p["padding"][1:3]
        begins, ends = zip(*begins_ends, strict=True)
        pool = dict(kernel_shape=size, pads=(*begins, *ends), strides=p["window_strides"][1:3])
        (x,) = inputs
        x = b.transpose(x, (0, 3, 1, 2)) if has_channels else b.reshape(x, (old[0], 1, *old[1:]))
        if kind == "AveragePool":
            mean = b.op(kind, x, **pool, count_include_pad=1)
            found = b.op("Mul", mean, float32(math.prod(size)))
        else:
            found = b.op(kind, x, **pool)
        return b.transpose(found, (0, 2, 3, 1)) if has_channels else b.reshape(found, new)

    return rule


def group_norm(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Value:
    """(x - mean) / deviation of each group, times a scale, plus a bias: [b, h, w, c]."""
    x, scale, bias, groups, epsilon = inputs
    batch, height, width, channels = eqn.outvars[0].aval.shape
    ones = np.ones(groups, np.float32)
    grouped = (batch, len(ones), height * width * channels // len(ones))
    found = b.op(
        "InstanceNormalization",
        b.reshape(b.transpose(x, (0, 3, 1, 2)), grouped),
        ones,
        np.zeros_like(ones),
        epsilon=float(epsilon),
    )
    found = b.op("Mul", b.reshape(found, (batch, channels, height, width)),
                 scale.reshape(-1, 1, 1))  # fmt: skip
    return b.transpose(b.op("Add", found, bias.reshape(-1, 1, 1)), (0, 2, 3, 1))
