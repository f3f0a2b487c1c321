"""The types that parts exchange: a training batch and a prediction.

Shapes are written as jaxtyping has them: b examples of h × w pixels or positions with c channels, n
things of one kind, k of another. A name means one number within a function. Tests check them.

A batch goes as uint8 from the loader (or a recorded file) to the device, and becomes float32 there.
So live and recorded training see the same numbers, and the host moves a quarter of the bytes.
"""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Num, UInt8

LABEL_SIZE = 64
Size = int | Sequence[int]  # of photos in pixels: of a square's side, or (height, width)
Array = jax.Array | np.ndarray
Photos = UInt8[Array, "b h w 3"] | Float32[Array, "b h w 3"]  # RGB in 0 … 255
Images = Float[Array, "b h w 3"]  # RGB in [0, 1]
AnomalyMaps = Float[Array, "b h w"]
FeatureMaps = Float[Array, "b h w c"]


def height_width(size: Size) -> tuple[int, int]:
    """Both sides of a ``Size``."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


class Batch(TypedDict):
    """One training batch as the loader yields it; channels are RGB."""

    image: UInt8[Array, "b h w 3"]  # the normal photo
    augmented_image: UInt8[Array, "b h w 3"]  # the same photo, perhaps with an anomaly
    anomaly_mask: UInt8[Array, "b h w 1"]  # in {0, 1}: where the anomaly is
    # Of the photo's category: where ``config.shared_label`` is known.
    label: NotRequired[Float32[Array, f"b {LABEL_SIZE}"]]


@flax.struct.dataclass
class Prediction:
    """A detector's result for b photos.

    Larger is more anomalous. Score and map are in [0, 1] where the method gives probabilities (its
    ``map_range`` says so), otherwise ≥ 0.
    """

    score: Float32[Array, " b"]
    anomaly_map: Float32[Array, "b h w"]
    # The defect-free version, in [0, 1]; None where the method makes none.
    reconstruction: Float32[Array, "b h w 3"] | None = None
    # Decoded from k mixed latents, in [0, 1]; None where there are none.
    interpolated: Float32[Array, "b k h w 3"] | None = None


@flax.struct.dataclass
class Validation:
    """How well a stage does on b held-out examples."""

    metrics: dict[str, Float[Array, ""]]
    pictures: dict[str, Images]  # by title


def to_float(pixels: Num[Array, "*shape"]) -> Float32[jax.Array, "*shape"]:
    """Pixels in 0 … 255 to [0, 1]."""
    return jnp.asarray(pixels, jnp.float32) / 255.0
