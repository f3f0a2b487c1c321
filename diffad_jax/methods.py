"""The methods that ``config.method`` can name."""

import ml_collections

from diffad_jax import diffad
from diffad_jax.baselines import draem, padim, patchcore, riad
from diffad_jax.contracts import Method

METHODS: dict[str, Method] = {
    "diffad": diffad,
    "draem": draem,
    "riad": riad,
    "padim": padim,
    "patchcore": patchcore,
}


def of(config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict) -> Method:
    """The method that the config names; ``check_config`` has seen to it that there is one."""
    return METHODS[config.method]
