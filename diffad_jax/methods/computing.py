"""The compute settings of a config's networks."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

Config = ml_collections.ConfigDict | ml_collections.FrozenConfigDict


def computing(config: Config) -> dict[str, Any]:
    """The arguments that every network takes: ``dtype`` and ``remat``."""
    return {"dtype": jnp.dtype(compute_dtype(config)), "remat": config.training.remat}


def compute_dtype(config: Config) -> str:
    """``config.training.compute_dtype``, chosen by the device where that is "auto".

    CPUs take longer in bfloat16.
    """
    if config.training.compute_dtype != "auto":
        return config.training.compute_dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"
