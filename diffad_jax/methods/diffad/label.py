"""The denoiser is told which product it rebuilds (``config.shared_label``); not in the paper.

Its label is mapped linearly to an embedding, and added to that of the timestep. At test the label
is that of the detector's own product, whatever a photo shows.
"""

import numpy as np

from diffad_jax.data import labels
from diffad_jax.methods.diffad import latent_diffusion
from diffad_jax.methods.train_state import Weights


def of_category(weights: Weights, category: str) -> Weights:
    """See ``contract.Method``: the embedding becomes a part of the bias of the timestep's.

    So a category's denoiser is one that takes no label. Sums are those of float64, rounded once: a
    device's own rounding would give other weights, and these have a fingerprint.
    """
    denoiser = weights[latent_diffusion.NAME]
    params = dict(denoiser["params"])
    kernel = np.float64(params.pop("label")["kernel"])
    embedding = (labels.code(category)[:, None] * kernel).sum(0)
    last = params["time_1"]
    bias = np.float32(np.float64(last["bias"]) + embedding)
    params["time_1"] = last | {"bias": bias}
    return weights | {latent_diffusion.NAME: denoiser | {"params": params}}
