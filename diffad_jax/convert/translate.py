"""Moves tensors between the published layouts and ours by a list of name pairs, all or none."""

import dataclasses
from collections.abc import Callable, Iterable

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from diffad_jax.convert.errors import ConvertError
from diffad_jax.convert.names import Pair

_SHOWN = 20  # names in an error


def to_ours(
    tensors: dict[str, np.ndarray],
    pairs: list[Pair],
    *,
    known: Callable[[str], bool],
    source: str,
) -> dict:
    """Our variables from published tensors.

    Args:
      tensors: by their names, of any type of real numbers with fractions.
      pairs: the tensors that must be there.
      known: whether another name may be there; it is then ignored.
      source: the file, for messages.

    Returns:
      A nested dict of float32 arrays, keyed by the pairs' paths.

    Raises:
      ConvertError: names all that is missing, unknown, misshapen, or no possible weights.
    """
    wanted = {pair.name for pair in pairs}
    problems = [f"{p.name} is missing" for p in pairs if p.name not in tensors]
    problems += [f"{n} is unknown" for n in tensors if n not in wanted and not known(n)]
    for pair in pairs:
        if pair.name not in tensors:
            continue
        if (shape := tensors[pair.name].shape) != (theirs := their_shape(pair)):
            problems.append(f"{pair.name} is {shape}, must be {theirs}")
        elif fault := number_fault(tensors[pair.name], is_variance=pair.path[-1] == "var"):
            problems.append(f"{pair.name} {fault}")
    if problems:
        raise ConvertError(_listing(source, problems))
    values = {pair.path: _to_ours(tensors[pair.name], pair) for pair in pairs}
    return flax.traverse_util.unflatten_dict(values)


def number_fault(values: np.ndarray, *, is_variance: bool) -> str:
    """The reason why these cannot be weights, as the end of a sentence; empty if they can."""
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return f"is of type {values.dtype}, not of a floating one"
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if not np.isfinite(single).all():
        return "holds numbers that are not finite"
    return "holds a negative variance" if is_variance and (single < 0).any() else ""


def to_theirs(variables: dict, pairs: list[Pair]) -> dict[str, np.ndarray]:
    """Published tensors from our variables: the inverse of ``to_ours``."""
    flat = flax.traverse_util.flatten_dict(variables)
    return {pair.name: _to_theirs(np.asarray(flat[pair.path]), pair) for pair in pairs}


def rgb(pairs: Iterable[Pair]) -> list[Pair]:
    """The same pairs for a network that was trained on RGB, as ours are, instead of BGR."""
    return [dataclasses.replace(pair, colour=None) for pair in pairs]


def prefixed(pairs: Iterable[Pair], part: str, name: Callable[[str], str]) -> list[Pair]:
    """The pairs below ``part`` of our tree, their names changed by ``name``."""
    return [
        dataclasses.replace(pair, path=(part, *pair.path), name=name(pair.name)) for pair in pairs
    ]


def their_shape(pair: Pair) -> tuple[int, ...]:
    # A stand-in without memory.
    return _to_theirs(np.broadcast_to(np.float32(0), pair.shape), pair).shape


def _to_ours(value: np.ndarray, pair: Pair) -> np.ndarray:
    match pair.layout:
        case "conv":
            value = value.transpose(2, 3, 1, 0)
        case "conv_1d":
            value = value.transpose(2, 1, 0)[None]
        case "linear":
            value = value.T.reshape(pair.shape)  # perhaps a 1×1 conv here
        case "head":
            value = value.reshape(pair.shape)
    return np.ascontiguousarray(_flipped(value, pair), np.float32)


def _to_theirs(value: np.ndarray, pair: Pair) -> np.ndarray:
    value = _flipped(value, pair)
    match pair.layout:
        case "conv":
            value = value.transpose(3, 2, 0, 1)
        case "conv_1d":
            value = value[0].transpose(2, 1, 0)
        case "linear":
            value = value.reshape(value.shape[-2:]).T
        case "head":
            value = value.reshape(1, -1, 1, 1)
    return value


def _flipped(value: np.ndarray, pair: Pair) -> np.ndarray:
    """RGB <-> BGR within each three channels of the pair's colour axis."""
    if pair.colour is None:
        return value
    threes = np.arange(pair.shape[pair.colour]).reshape(-1, 3)[:, ::-1].ravel()
    return value.take(threes, axis=pair.colour)


def _listing(source: str, problems: list[str]) -> str:
    lines = [f"{source} does not fit the config's networks, {len(problems)} tensors:"]
    lines += [f"  {problem}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"  ... and {len(problems) - _SHOWN} more")
    return "\n".join(lines)
