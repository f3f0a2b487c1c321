"""The reconstructive subnetwork of DRAEM (Zavrtanik et al., ICCV 2021)."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float32

from diffad_jax.models import layers
from diffad_jax.models.layers import Dtype
from diffad_jax.models.segmenter import ConvBlock, check_size
from diffad_jax.types import Array, Images


class Reconstructor(nn.Module):
    """An image without its anomalies, through a narrow map; no skip connections.

    Attributes:
      channels: width of the first level.
      multipliers: width of each level in units of ``channels``; all but the last halve the map.
      patch_size: p > 1 makes p × p patches into channels before the first conv, and the image out
        of the last conv by pixel shuffle. Not in the published network.
      dtype: compute dtype; parameters, running statistics and the image are float32.
      remat: recompute blocks in the backward pass instead of keeping their activations.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    patch_size: int = 1
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Images, *, train: bool) -> Float32[Array, "b h w 3"]:
        """About in [0, 1], as ``image``; nothing clips it.

        Args:
          image: h and w multiples of patch_size · 2^(levels - 1).
          train: see ``Segmenter``.
        """
        check_size(image, self.patch_size, len(self.multipliers))
        block = nn.remat(ConvBlock, static_argnums=(2,)) if self.remat else ConvBlock
        block = functools.partial(block, dtype=self.dtype)
        widths = [self.channels * multiplier for multiplier in self.multipliers]
        h = layers.space_to_depth(image, self.patch_size).astype(self.dtype)
        for level, features in enumerate(widths):
            if level > 0:
                h = layers.max_pool(h)
            h = block(features, 2, name=f"down_{level}")(h, train)
        for level in reversed(range(len(widths) - 1)):
            h = layers.upsample_bilinear(h)
            h = block(h.shape[-1], 2, name=f"up_{level}")(h, train)
            h = block(widths[max(level - 1, 0)], 1, name=f"narrow_{level}")(h, train)
        pixels = layers.conv(
            h,
            3 * self.patch_size**2,
            name="conv_out",
            dtype=self.dtype,
            kernel_init=layers.normal_around(0.0, 0.02),
        )
        return layers.pixel_shuffle(pixels.astype(jnp.float32), self.patch_size)
