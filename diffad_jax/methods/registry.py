"""The methods that ``config.method`` can name."""

import ml_collections

from diffad_jax.methods import draem, padim, patchcore, riad
from diffad_jax.methods.contract import Method
from diffad_jax.methods.diffad import method as diffad

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        diffad.METHOD,
        draem.METHOD,
        riad.METHOD,
        padim.METHOD,
        patchcore.METHOD,
    )
}


def get_method(config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict) -> Method:
    """The method that the config names; ``check_config`` has seen to it that there is one."""
    return METHODS[config.method]
