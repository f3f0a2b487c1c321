"""LPIPS, the learned perceptual distance (Zhang et al., CVPR 2018), on VGG16.

It means something only with trained weights: those of VGG16 and of the linear heads.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32

from diffad_jax.models import layers
from diffad_jax.models.layers import Dtype
from diffad_jax.types import Array, FeatureMaps, Images

DEPTHS = (2, 2, 3, 3, 3)  # convs of each stage of VGG16; a stage ends where a pooling begins
SHIFT = (-0.030, -0.088, -0.188)  # ImageNet's mean and deviation of R, G, B, ...
SCALE = (0.458, 0.448, 0.450)  # ... for images in [-1, 1]


class VggStage(nn.Module):
    """``depth`` times conv 3×3, ReLU."""

    features: int
    depth: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: FeatureMaps) -> Float[Array, "b h w {self.features}"]:
        for i in range(self.depth):
            x = nn.relu(layers.conv(x, self.features, name=f"conv_{i}", dtype=self.dtype))
        return x


class Lpips(nn.Module):
    """The perceptual distance of two images.

    Attributes:
      channels: width of the first stage of VGG16.
      multipliers: width of each stage in units of ``channels``.
      dtype: compute dtype of VGG16; parameters and the distance are float32.
      remat: recompute stages in the backward pass instead of keeping their activations.
    """

    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Images, reference: Images) -> Float32[Array, " b"]:
        """Σ over stages of the mean over pixels of Σ_c head_c (f̂_c(image) - f̂_c(reference))².

        f̂ are a stage's features divided by their length at each pixel.

        Args:
          image, reference: at least 16 pixels high and wide. The metric was trained on [-1, 1];
            the published DiffAD recipe hands it [0, 1] as it is.

        Returns:
          ≥ 0 with the trained heads, 0 for equal images.
        """
        stage = nn.remat(VggStage) if self.remat else VggStage
        batch = image.shape[0]
        shift, scale = (jnp.array(c)[None, None, None] for c in (SHIFT, SCALE))
        h = (jnp.concatenate([image, reference]) - shift) / scale
        distance = jnp.zeros(batch)
        for i, (multiplier, depth) in enumerate(zip(self.multipliers, DEPTHS, strict=True)):
            features = self.channels * multiplier
            if i > 0:
                h = layers.max_pool(h)
            h = stage(features, depth, self.dtype, name=f"stage_{i}")(h)
            head = self.param(f"head_{i}", nn.initializers.constant(1 / features), (features,))
            unit = _unit_length(h.astype(jnp.float32))
            squares = (unit[:batch] - unit[batch:]) ** 2
            distance = distance + jnp.einsum("bhwc,c->bhw", squares, head).mean((1, 2))
        return distance


def _unit_length(x: jax.Array) -> jax.Array:
    """x / (‖x‖ + 1e-10) along the channels, with a finite gradient where x is 0 throughout."""
    squares = jnp.sum(x * x, axis=-1, keepdims=True)
    return x / (jnp.sqrt(jnp.maximum(squares, 1e-20)) + 1e-10)
