"""The three stages in the order in which they train.

A stage is a module with ``NAME``, ``BEST_BY``, ``settings``, ``init_state``, ``train_step``,
``weights`` and ``validate``; see ``train.Stage``.
"""

from diffad_jax.stages import autoencoder, latent_diffusion, segmentation

STAGES = (autoencoder, latent_diffusion, segmentation)
