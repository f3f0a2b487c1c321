"""How a config's networks compute."""

from typing import Any

import jax.numpy as jnp
import ml_collections


def computing(
    config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict,
) -> dict[str, Any]:
    """The arguments that every network takes: ``dtype`` and ``remat``."""
    c = config.training
    return {"dtype": jnp.dtype(c.compute_dtype), "remat": c.remat}
