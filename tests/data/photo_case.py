"""A small photo, and the rules by which it is read."""

import numpy as np
from PIL import Image

from diffad_jax.data.photo import Rules

BILINEAR, ANTIALIAS = Rules("bilinear"), Rules("antialias")
GRADIENT = np.add.outer(8 * np.arange(12), 5 * np.arange(16)).astype(np.uint8)
RGB = np.stack([GRADIENT, GRADIENT // 2, 255 - GRADIENT], axis=-1)


def save(path, array, **kwargs):
    Image.fromarray(array).save(path, **kwargs)
    return str(path)
