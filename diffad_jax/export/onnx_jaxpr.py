"""From a jaxpr to ONNX nodes, equation by equation.

Operations on known values are computed here and become constants. Functions are inlined and loops
unrolled.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from diffad_jax.export import onnx_ops, onnx_random
from diffad_jax.export.errors import ExportError
from diffad_jax.export.onnx_builder import Builder, Value, integers

_INLINED = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr"}
# Operations that give b equal rows from b equal rows, so that one row is enough.
_ROW_WISE = {*onnx_ops.ELEMENT_WISE, *onnx_ops.UNARY, "convert_element_type", "integer_pow",
             "select_n", "dot_general", "concatenate", "reshape", "squeeze"}  # fmt: skip


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
    if name in _INLINED and p.get("name") not in onnx_ops.FUNCTIONS:
        return add(b, p[_INLINED[name]], inputs)
    if (found := _folded(b, eqn, inputs)) is not None:
        return found
    if name == "scan":
        return _scan(b, eqn, inputs)
    if name in ("random_split", "random_bits"):
        return _random(b, eqn, inputs)
    rule = onnx_ops.FUNCTIONS.get(p.get("name")) or onnx_ops.RULES.get(name)
    if rule is None:
        raise ExportError(f"--format=onnx does not know JAX's operation {name!r}")
    if not _broadcasts_by_itself(b, eqn, inputs):
        inputs = [b.full(x, v.aval.shape) for v, x in zip(eqn.invars, inputs, strict=True)]
    result = rule(b, eqn, inputs)
    return result if isinstance(result, list) else [result]


def _folded(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> list[Value] | None:
    """The results of an equation of known values; None where it becomes a node."""
    name = eqn.primitive.name
    if any(isinstance(x, str) for x in inputs) or name in ("scan", "dim_as_value"):
        return None
    if name == "convert_element_type" and inputs[0].dtype == np.float16:
        return None  # the file holds a memory bank as float16, and runtimes fold the rest
    static = all(isinstance(d, int) for v in eqn.outvars for d in v.aval.shape)
    if static and all(b.is_full(x, v.aval.shape) for x, v in zip(inputs, eqn.invars, strict=True)):
        return _evaluated(eqn, inputs, eqn.params)
    return _folded_row(b, eqn, inputs) if name in _ROW_WISE else None


def _folded_row(b: Builder, eqn: JaxprEqn, inputs: list[np.ndarray]) -> list[Value] | None:
    """One of b equal rows."""
    shapes = [tuple(map(b.at_one, v.aval.shape)) for v in eqn.invars]
    if eqn.primitive.name in onnx_ops.ELEMENT_WISE or eqn.primitive.name == "select_n":
        shapes = [np.broadcast_shapes(*(x.shape for x in inputs))] * len(inputs)
    elif len(inputs) == 1 and eqn.primitive.name not in ("reshape", "squeeze"):
        shapes = [inputs[0].shape]
    elif eqn.outvars[0].aval.shape[:1] != eqn.invars[0].aval.shape[:1]:
        return None
    inputs = [np.broadcast_to(x, shape) for x, shape in zip(inputs, shapes, strict=True)]
    return _evaluated(eqn, inputs, jax.tree.map(b.at_one, eqn.params, is_leaf=_is_dimension)
                      if eqn.primitive.name == "reshape" else eqn.params)  # fmt: skip


def _is_dimension(value: Any) -> bool:
    return jax.export.is_symbolic_dim(value)


def _evaluated(eqn: JaxprEqn, inputs: list[np.ndarray], params: dict) -> list[Value]:
    found = eqn.primitive.bind(*map(jnp.asarray, inputs), **params)
    found = found if eqn.primitive.multiple_results else [found]
    return [x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x) for x in found]


def _broadcasts_by_itself(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> bool:
    """Whether one operand of an element-wise operation already has the result's shape."""
    return eqn.primitive.name in onnx_ops.ELEMENT_WISE and any(
        isinstance(x, str)
        and b.is_full(x, v.aval.shape)
        and v.aval.shape == eqn.outvars[0].aval.shape
        for v, x in zip(eqn.invars, inputs, strict=True)
    )


def _scan(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
    """A loop, written out turn by turn."""
    p = eqn.params
    first, last = p["num_consts"], p["num_consts"] + p["num_carry"]
    constants, carry, rows = inputs[:first], inputs[first:last], inputs[last:]
    outputs: list[list[Value]] = []
    for i in range(p["length"])[:: -1 if p["reverse"] else 1]:
        now = [b.op("Gather", row, np.int64(i)) if isinstance(row, str) else row[i] for row in rows]
        found = add(b, p["jaxpr"], [*constants, *carry, *now])
        carry, made = found[: p["num_carry"]], found[p["num_carry"] :]
        outputs.append([b.op("Unsqueeze", value, integers([0])) for value in made])
    turns = outputs[:: -1 if p["reverse"] else 1]
    return [*carry, *(b.op("Concat", *values, axis=0) for values in zip(*turns, strict=True))]


def _random(b: Builder, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
    """jax.random's numbers with ``jax_threefry_partitionable``: those of entry i depend on i."""
    shape = eqn.params["shape"]
    counts = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)

    def keys(key: jax.Array) -> jax.Array:
        return jnp.concatenate([x[:, None] for x in onnx_random.threefry(key, counts)], axis=1)

    def bits(key: jax.Array) -> jax.Array:
        return jnp.bitwise_xor(*onnx_random.threefry(key, counts))

    drawn = keys if eqn.primitive.name == "random_split" else bits
    return add(b, jax.make_jaxpr(drawn)(jax.ShapeDtypeStruct((2,), np.uint32)), inputs)
