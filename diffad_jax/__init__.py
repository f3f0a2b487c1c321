"""DiffAD in JAX: surface anomaly detection with a conditional latent diffusion model."""

import os

# What XLA and TensorFlow report of themselves in C++ at each start; read once, as JAX is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
