"""Pretrained weights from safetensors files."""

import os
from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np
import safetensors

from diffad_jax.models.inception import LAYERS, SMALLEST_INPUT, Inception
from diffad_jax.runtime import regular

MOST_WEIGHTS = 2**34  # bytes of a file of weights
READABLE = ("F16", "F32", "F64")  # the types of numbers that NumPy has too
_MAX_HEADER = 2**24  # bytes
_MOST_SAID = 300  # characters of the library's reason
NUM_LISTED = 5  # faults an error message lists in full


def load_safetensors(path: str | os.PathLike[str], template: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that ``template`` describes, from a file with one tensor for each.

    Args:
      path: of the file. A tensor's name is its parameter's path joined by ``/``
        (``conv_1/kernel``); tensors that the template lacks are ignored.
      template: nested dictionaries whose leaves have a shape and a dtype: parameters, or what
        ``jax.eval_shape`` makes of them.

    Returns:
      The template with NumPy arrays for leaves, in its dtypes.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no safetensors file or is damaged; it lacks tensors, or has them in another
        shape or type; it holds numbers that are not finite. The message names the file.
    """
    leaves = flax.traverse_util.flatten_dict(template, sep="/")
    with open_safetensors(path) as file:
        faults = _faults(file, {name: tuple(leaf.shape) for name, leaf in leaves.items()})
        if faults:
            listed = "; ".join(faults[:NUM_LISTED])
            more = f"; and {len(faults) - NUM_LISTED} more" if len(faults) > NUM_LISTED else ""
            raise ValueError(f"{os.fspath(path)} does not fit the network: {listed}{more}")
        with np.errstate(over="ignore"):  # a float64 that float32 lacks is found below
            loaded = {n: file.get_tensor(n).astype(leaf.dtype) for n, leaf in leaves.items()}
    if broken := [name for name, value in loaded.items() if not np.isfinite(value).all()]:
        raise ValueError(f"{os.fspath(path)} holds numbers that are not finite, in {broken[0]}")
    return flax.traverse_util.unflatten_dict(loaded, sep="/")


def load_inception(path: str | os.PathLike[str], names: tuple[str, ...]) -> dict[str, Any]:
    """The parameters of ``Inception(names)`` and ``InceptionDistance(names)``.

    The file may end at the deepest of the layers in ``names``.

    Raises:
      ValueError: the file lacks weights of a needed layer (the message names layers that it has); a
        name is unknown; or as ``load_safetensors``.
    """
    template = _inception_template(names)
    with open_safetensors(path) as file:
        missing = set(flax.traverse_util.flatten_dict(template, sep="/")) - set(file.keys())
        served = _served(set(file.keys())) if missing else ()
    if served:
        unserved = ", ".join(name for name in names if name not in served)
        raise ValueError(
            f"{os.fspath(path)} lacks weights for {unserved}: it can serve {', '.join(served)}"
        )
    return load_safetensors(path, template)


def _inception_template(names: tuple[str, ...]) -> dict[str, Any]:
    image = jax.ShapeDtypeStruct((1, SMALLEST_INPUT, SMALLEST_INPUT, 3), np.float32)
    return jax.eval_shape(Inception(names).init, jax.random.key(0), image)["params"]


def _served(available: set[str]) -> tuple[str, ...]:
    """The layers of Inception up to the first one that lacks a tensor."""
    for i, name in enumerate(LAYERS):
        if set(flax.traverse_util.flatten_dict(_inception_template((name,)), sep="/")) - available:
            return LAYERS[:i]
    return LAYERS


def open_safetensors(path: str | os.PathLike[str]) -> Any:
    """``safetensors.safe_open`` for NumPy, of a regular file with a header of bounded length.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no regular file, no safetensors file, or is damaged.
    """
    try:
        with regular.open_regular(path, MOST_WEIGHTS) as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MAX_HEADER:
                raise ValueError(f"its header claims {length} bytes")
            regular.check_json(file.read(length))
        return safetensors.safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no weights file {os.fspath(path)}") from None
    except OSError as error:
        raise ValueError(f"cannot read {os.fspath(path)}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, ValueError) as error:
        reason = ascii(str(error)[:_MOST_SAID])  # it may quote what the file holds
        raise ValueError(
            f"{os.fspath(path)} is not a safetensors file, or is damaged: {reason}"
        ) from error


def _faults(file: Any, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Why ``file`` cannot give tensors of these shapes; empty where it can."""
    faults = []
    available = set(file.keys())
    for name, shape in shapes.items():
        if name not in available:
            faults.append(f"{name} is missing")
            continue
        tensor = file.get_slice(name)
        if tuple(tensor.get_shape()) != shape:
            faults.append(f"{name} is {tensor.get_shape()}, not {list(shape)}")
        elif tensor.get_dtype() not in READABLE:
            faults.append(f"{name} is {tensor.get_dtype()}, not one of {', '.join(READABLE)}")
    return faults
