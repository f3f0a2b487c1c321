"""DiffAD in JAX: surface anomaly detection with a conditional latent diffusion model."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffad_jax.commands.api import Detector, Prediction, Region, fit, load

# Silences what XLA and TensorFlow log in C++ at each start; both read it when JAX is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN logs at any level, and the order of its additions depends on the kind of processor.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# gcsfs and s3fs read buckets, with TensorFlow or without: its own client knows no s3://.
os.environ.setdefault("EPATH_USE_TF", "false")

__version__ = "0.1.0"
__all__ = ["Detector", "Prediction", "Region", "fit", "load"]


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used, so that the import itself needs no JAX."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from diffad_jax.commands import api

    return getattr(api, name)
