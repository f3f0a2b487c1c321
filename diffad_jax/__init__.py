"""DiffAD in JAX: surface anomaly detection with a conditional latent diffusion model."""

__version__ = "0.1.0"
