"""The three stages of DiffAD in the order in which they train.

What a stage's module offers is said in ``contracts.Stage``. ``normal_level``, which is fitted, is
not the paper's.
"""

from diffad_jax.methods.diffad import autoencoder, latent_diffusion, segmentation

STAGES = (autoencoder, latent_diffusion, segmentation)
