"""The types that parts exchange: a training batch and a prediction.

A batch goes as uint8 from the loader (or a recorded file) to the device, and becomes float32 there.
So live and recorded training see the same numbers, and the host moves a quarter of the bytes.
"""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

LABEL_SIZE = 64
Size = int | Sequence[int]  # of photos in pixels: of a square's side, or (height, width)


def height_width(size: Size) -> tuple[int, int]:
    """Both sides of a ``Size``."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


class Batch(TypedDict):
    """One training batch as the loader yields it; b examples of h × w pixels, channels RGB."""

    image: np.ndarray  # [b, h, w, 3] uint8: the normal photo
    augmented_image: np.ndarray  # [b, h, w, 3] uint8: the same photo, perhaps with an anomaly
    anomaly_mask: np.ndarray  # [b, h, w, 1] uint8 in {0, 1}: where the anomaly is
    # [b, LABEL_SIZE] float32, of the photo's category: where ``config.shared_label`` is known.
    label: NotRequired[np.ndarray]


@flax.struct.dataclass
class Prediction:
    """A detector's result for b images of h × w pixels.

    Larger is more anomalous. Score and map are in [0, 1] where the method gives probabilities (its
    ``map_range`` says so), otherwise ≥ 0.
    """

    score: jax.Array  # [b] float32
    anomaly_map: jax.Array  # [b, h, w] float32
    # The defect-free version, [b, h, w, 3] float32 in [0, 1]; None where the method makes none.
    reconstruction: jax.Array | None = None
    # Decoded from k mixed latents, [b, k, h, w, 3] float32 in [0, 1]; None where there are none.
    interpolated: jax.Array | None = None


@flax.struct.dataclass
class Validation:
    """How well a stage does on b held-out examples."""

    metrics: dict[str, jax.Array]  # scalars
    pictures: dict[str, jax.Array]  # title -> [b, h, w, 3] float32 in [0, 1]; shown by title


def to_float(pixels: jax.Array | np.ndarray) -> jax.Array:
    """uint8 pixels in [0, 255] to float32 in [0, 1], any shape."""
    return jnp.asarray(pixels, jnp.float32) / 255.0
