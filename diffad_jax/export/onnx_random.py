"""JAX's random numbers in ONNX, from a seed that is known only when the graph runs.

OpenVINO reads the highest bit of uint32 as a sign, divides in float32 and saturates constants. So
no constant has that bit, and numbers are shifted to the right or divided a few bits at a time.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax.extend.core import JaxprEqn

from diffad_jax.export.onnx_builder import Builder, Value, float32


def rules() -> dict[str, Any]:
    """A rule for each of JAX's operations, see ``onnx_ops.Rule``."""
    return {
        "shift_left": _shift_left,
        "shift_right_logical": _shift_right,
        "rem": _rem,
        "erf_inv": _erf_inv,
        "bitcast_convert_type": _bitcast,
        "random_seed": _random_seed,
    }


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


def _shift_left(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    return b.op("BitShift", *inputs, direction="LEFT")


def _shift_right(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    return _shifted(b, *inputs)


def _shifted(b: Builder, value: Value, bits: np.ndarray) -> str:
    """Shifts uint32 to the right: its highest bit, then 15, then 16 others."""
    bits = np.uint32(bits)
    low = b.op("BitwiseAnd", value, np.uint32(2**31 - 1))
    is_low = b.op("Equal", b.op("BitwiseXor", value, low), np.uint32(0))
    found = b.op("Where", is_low, np.uint32(0), np.uint32(2**31) >> bits)
    for part in (np.uint32(0x7FFF0000), np.uint32(0xFFFF)):
        if mask := part >> bits << bits:
            shifted = b.op("BitShift", b.op("BitwiseAnd", value, mask), bits, direction="RIGHT")
            found = b.op("BitwiseOr", found, shifted)
    return found


def _rem(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    """The remainder of uint32 by a small known number, in halves."""
    value, by = inputs
    if eqn.invars[0].aval.dtype != np.uint32 or isinstance(by, str) or by.max() > 4096:
        return b.op("Mod", *inputs)
    high = b.op("Mod", _shifted(b, value, np.uint32(16)), by)
    low = b.op("BitwiseAnd", value, np.uint32(0xFFFF))
    return b.op("Mod", b.op("Add", b.op("Mul", high, np.uint32(2**16) % by), low), by)


def _erf_inv(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    """The inverse error function by Giles (2012), single precision, as in XLA."""
    (x,) = inputs
    w = b.op("Neg", b.op("Log", b.op("Sub", float32(1.0), b.op("Mul", x, x))))
    central = [2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
               -0.00125372503, -0.00417768164, 0.246640727, 1.50140941]  # fmt: skip
    tail = [-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
            -0.0076224613, 0.00943887047, 1.00167406, 2.83297682]  # fmt: skip

    def polynomial(coefficients: list[float], w: str) -> str:
        total: Value = float32(coefficients[0])
        for c in coefficients[1:]:
            total = b.op("Add", b.op("Mul", total, w), float32(c))
        return total

    p = b.op(
        "Where",
        b.op("Less", w, float32(5.0)),
        polynomial(central, b.op("Sub", w, float32(2.5))),
        polynomial(tail, b.op("Sub", b.op("Sqrt", w), float32(3.0))),
    )
    return b.op("Mul", p, x)


def _bitcast(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    """uint32 to a float32 in [1, 2): the only use, inside jax.random.uniform.

    ONNX has no such operation before operator set 26, so the 23 bits of the fraction are counted.
    """
    fraction = b.op("BitwiseAnd", *inputs, np.array(0x7FFFFF, np.uint32))
    fraction = b.op("Cast", fraction, to=onnx.TensorProto.FLOAT)
    return b.op("Add", b.op("Mul", fraction, float32(2.0**-23)), float32(1.0))


def _random_seed(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> str:
    seed = b.reshape(inputs[0], (1,))
    return b.op("Concat", np.zeros(1, np.uint32), seed, axis=0)
