"""The suite checks the shapes that annotations state; other annotations it leaves alone."""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jaxtyping
from beartype import beartype
from beartype.door import is_bearable
from beartype.vale import Is

ROOMS = ("types", "models", "methods", "inference", "evaluation")


def check_annotations() -> None:
    """To be called before the rooms are imported: from then on each call checks its arrays."""
    rooms = [f"diffad_jax.{room}" for room in ROOMS]
    jaxtyping.install_import_hook(rooms, "tests.shapes.checked")


def checked(function: Callable) -> Callable:
    """What jaxtyping takes for a type checker.

    Constructors are left alone: JAX rebuilds a tree's nodes with whatever leaves it has. A record
    is checked where a function takes or returns it.
    """
    hints = {name: _shapes(hint) for name, hint in function.__annotations__.items()}
    if function.__name__ == "__init__" or not any(hints.values()):
        return function
    function.__annotations__ = {name: hint for name, hint in hints.items() if hint}
    return beartype(function)


@functools.cache
def _shapes(hint: Any) -> Any:
    """The hint where it states a shape, itself or in its fields; else None."""
    if _states_shape(hint):
        return hint
    if inspect.isclass(hint) and hint.__module__.startswith("diffad_jax."):
        hints = typing.get_type_hints if typing.is_typeddict(hint) else inspect.get_annotations
        fields = {name: h for name, h in hints(hint).items() if _states_shape(h)}
        return Annotated[object, Is[lambda record: _fits(record, fields)]] if fields else None
    return None


def _states_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_states_shape, typing.get_args(hint)))


def _fits(record: Any, fields: dict[str, Any]) -> bool:
    """Whether what the record holds of its fields fits them, and each other."""
    held = record if isinstance(record, dict) else {n: getattr(record, n) for n in fields}
    # jax.eval_shape makes records without arrays.
    checked = [n for n in held if n in fields and not isinstance(held[n], jax.ShapeDtypeStruct)]
    with jaxtyping.jaxtyped("context"):
        return all(is_bearable(held[n], fields[n]) for n in checked)
