"""The methods that ``config.method`` can name."""

import ml_collections

from diffad_jax import diffad
from diffad_jax.contracts import Method

METHODS: dict[str, Method] = {"diffad": diffad}


def of(config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict) -> Method:
    """The method that the config names; ``check_config`` has seen to it that there is one."""
    return METHODS[config.method]
