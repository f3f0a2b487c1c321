"""Checks by shapes, before hours of training, that a method's networks fit the photos' size."""

from typing import NamedTuple

import ml_collections

from diffad_jax.errors import ConfigError, UserError
from diffad_jax.methods.registry import check_config, get_method
from diffad_jax.types import Size

# The sizes to try, in pixels, and the largest one: multiples of 8 suit networks of convolutions,
# multiples of 14 the vision transformers.
_STEPS, _REACH = (8, 14), 256
_MOST_WORK_AT = (512, 504)  # a network that takes any size takes one of these


def check_sizes(config: ml_collections.ConfigDict) -> None:
    """Traces every network of the method; nothing is computed.

    Raises:
      ConfigError: one of them cannot take photos of ``config.image_size``; the message names the
        nearest sizes that work. Or the networks do not fit each other at any size.
    """
    if not (fault := _fault(config, config.image_size)):
        return
    other, *rest = (_fault(config, size) for size in _MOST_WORK_AT)
    if other and all(rest):
        if isinstance(other.error, UserError):
            raise other.error
        raise ConfigError(f"the network of stage {other.stage} cannot be: {other.error}")
    raise ConfigError(
        f"config.image_size = {config.image_size} does not suit the network of stage "
        f"{fault.stage}: take {' or '.join(map(str, _near(config)))}"
    )


def _near(config: ml_collections.ConfigDict) -> list[Size]:
    """The nearest multiples of 8 or 14 below and above that work; of a pair, one pair."""
    size = config.image_size
    if not isinstance(size, int):
        return [found] if (found := multiples_that_fit(config, size)) else []
    near = range(max(size - _REACH, 1), size + _REACH)
    tried = [s for s in near if any(s % step == 0 for step in _STEPS)]
    below, above = (s for s in reversed(tried) if s < size), (s for s in tried if s > size)
    found = (next((s for s in sizes if not _fault(config, s)), 0) for sizes in (below, above))
    return [s for s in found if s]


def multiples_that_fit(
    config: ml_collections.ConfigDict, sides: tuple[float, float]
) -> tuple[int, int] | None:
    """The nearest (height, width) in multiples of 8, 14, 16, … that all networks take, if any."""
    for step in (*_STEPS, 16, 32, 64, 128):
        height, width = (max(int(side / step + 0.5), 1) * step for side in sides)
        if not _fault(config, (height, width)):
            return height, width
    return None


class _Fault(NamedTuple):
    stage: str
    error: Exception


def _fault(config: ml_collections.ConfigDict, size: Size) -> _Fault | None:
    """The first stage that fails at this size, and its error; None where all fit."""
    other = ml_collections.ConfigDict(config).copy_and_resolve_references()
    other.image_size = size
    weights, name = {}, config.method
    try:
        check_config(other)
        for stage in get_method(other).stages(ml_collections.FrozenConfigDict(other)):
            if not stage.fit and not stage.settings(other).steps:
                other[stage.section].steps = 1  # its number shapes nothing
        frozen = ml_collections.FrozenConfigDict(other)
        for stage in get_method(frozen).stages(frozen):
            name = stage.name
            stage.pretrained(frozen)
            weights[name] = stage.weights_shapes(frozen, weights)
    except Exception as error:  # of a shape in Flax, JAX or here
        return _Fault(name, error)
    return None
