"""From a jaxpr to ONNX nodes, equation by equation.

What depends on known values alone is computed here and becomes a constant; functions are inlined
and loops unrolled.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from diffad_jax.export import onnx_ops
from diffad_jax.export.errors import ExportError
from diffad_jax.export.onnx_builder import Builder, Value

_INLINED = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr"}


def add(b: Builder, closed: ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
    """Adds a function's nodes.

    Args:
      b: the graph so far.
      closed: the function.
      inputs: its arguments.

    Returns:
      Its results.

    Raises:
      ExportError: an operation is not known.
    """
    jaxpr = closed.jaxpr
    known = dict(zip(jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
    values = known | dict(zip(jaxpr.invars, inputs, strict=True))

    def read(variable) -> Value:
        if isinstance(variable, Literal):
            return np.asarray(variable.val, variable.aval.dtype)
        return values[variable]

    for eqn in jaxpr.eqns:
        results = _results(b, eqn, [read(v) for v in eqn.invars])
        values |= zip(eqn.outvars, results, strict=True)
    return [read(v) for v in jaxpr.outvars]


def _results(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> Sequence[Value]:
    name, p = eqn.primitive.name, eqn.params
    if name in _INLINED:
        return add(b, p[_INLINED[name]], inputs)
    if name == "scan":
        return _scan(b, eqn, inputs)
    if name in ("random_split", "random_bits"):
        return _random(b, eqn, inputs)
    if _is_known(eqn, inputs):
        found = eqn.primitive.bind(*map(jnp.asarray, inputs), **p)
        return [np.asarray(x) for x in (found if eqn.primitive.multiple_results else [found])]
    if name not in onnx_ops.RULES:
        raise ExportError(f"--format=onnx does not know JAX's operation {name!r}")
    if not _broadcasts_by_itself(b, eqn, inputs):
        inputs = [b.full(value) for value in inputs]
    result = onnx_ops.RULES[name](b, eqn, inputs)
    return result if isinstance(result, list) else [result]


def _is_known(eqn: JaxprEqn, inputs: list[Value]) -> bool:
    static = all(isinstance(d, int) for v in eqn.outvars for d in v.aval.shape)
    return static and not any(isinstance(value, str) for value in inputs)


def _broadcasts_by_itself(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> bool:
    """Whether one operand of an element-wise operation already has the result's shape."""
    return eqn.primitive.name in onnx_ops.ELEMENT_WISE and any(
        b.is_full(value) and v.aval.shape == eqn.outvars[0].aval.shape
        for v, value in zip(eqn.invars, inputs, strict=True)
    )


def _scan(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
    """A loop over known values that keeps nothing but its last carry."""
    p = eqn.params
    first, last = p["num_consts"], p["num_consts"] + p["num_carry"]
    constants, carry, rows = inputs[:first], inputs[first:last], inputs[last:]
    if len(eqn.outvars) != p["num_carry"] or any(isinstance(row, str) for row in rows):
        raise ExportError("--format=onnx knows loops over known values without outputs alone")
    for i in range(p["length"]):
        carry = add(b, p["jaxpr"], [*constants, *carry, *(row[i] for row in rows)])
    return carry


def _random(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
    """jax.random's numbers with ``jax_threefry_partitionable``: those of entry i depend on i."""
    shape = eqn.params["shape"]
    counts = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)

    def keys(key: jax.Array) -> jax.Array:
        return jnp.concatenate([x[:, None] for x in onnx_ops.threefry(key, counts)], axis=1)

    def bits(key: jax.Array) -> jax.Array:
        return jnp.bitwise_xor(*onnx_ops.threefry(key, counts))

    drawn = keys if eqn.primitive.name == "random_split" else bits
    return add(b, jax.make_jaxpr(drawn)(jax.ShapeDtypeStruct((2,), np.uint32)), inputs)
