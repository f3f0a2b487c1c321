"""The floating-point operations of a function: its matrix products and convolutions."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def count(fn: Callable, *args: Any) -> float:
    """FLOP of one call; nothing is computed.

    A multiply-add counts as two. All else (normalisation, activations, the optimiser) is left out,
    as usual for utilisation. A scan's body counts as often as it runs, the body of a
    ``while_loop`` once, and of a ``cond`` the most expensive branch.

    Args:
      fn: any function of JAX, compiled or not.
      args: arrays or shapes.
    """
    return _of_jaxpr(jax.make_jaxpr(fn)(*args).jaxpr)


def _of_jaxpr(jaxpr: core.Jaxpr) -> float:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left, result = equation.invars[0].aval.shape, equation.outvars[0].aval.size
        return 2.0 * result * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, output_axis = equation.invars[1].aval, params["dimension_numbers"].rhs_spec[0]
        a_value = kernel.size / kernel.shape[output_axis]
        # The zeros in a dilated input, as in gradients of strided convolutions, cost nothing.
        return 2.0 * equation.outvars[0].aval.size * a_value / math.prod(params["lhs_dilation"])
    inner = [_of_jaxpr(jaxpr) for jaxpr in _inner(params)]
    if name == "scan":
        return params["length"] * sum(inner)
    return max(inner, default=0.0) if name == "cond" else sum(inner)


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part
