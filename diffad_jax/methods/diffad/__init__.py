"""The three stages of DiffAD in the order in which they train.

``normal_level``, which is fitted, is not the paper's.
"""

from diffad_jax.methods.diffad import autoencoder, latent_diffusion, segmentation

STAGES = (autoencoder.STAGE, latent_diffusion.STAGE, segmentation.STAGE)
