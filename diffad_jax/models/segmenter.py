"""The discriminative U-Net of DRAEM (Zavrtanik et al., ICCV 2021)."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Float32

from diffad_jax.errors import UserError
from diffad_jax.models import layers
from diffad_jax.models.layers import Dtype
from diffad_jax.types import Array, FeatureMaps


class ConvBlock(nn.Module):
    """``depth`` times conv, batch normalisation, ReLU."""

    features: int
    depth: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: FeatureMaps, train: bool) -> Float[Array, "b h w {self.features}"]:
        for i in range(self.depth):
            x = layers.conv(
                x,
                self.features,
                name=f"conv_{i}",
                dtype=self.dtype,
                kernel_init=layers.normal_around(0.0, 0.02),
            )
            x = layers.batch_norm(x, name=f"norm_{i}", dtype=self.dtype, train=train)
            x = nn.relu(x)
        return x


def check_size(image: FeatureMaps, patch_size: int, levels: int) -> None:
    """Raises UserError if the network cannot halve the image so often."""
    _, height, width, _ = image.shape
    factor = layers.reduction(patch_size, levels)
    if height % factor or width % factor:
        raise UserError(
            f"the network shrinks an image by {factor} (patch_size {patch_size}, "
            f"{levels} levels), which does not divide {height} x {width}: "
            "give it fewer levels or another image size"
        )


class Segmenter(nn.Module):
    """Logits (normal, anomalous) of every pixel.

    Attributes:
      channels: width of the first level.
      multipliers: width of each level in units of ``channels``; all but the last halve the map. On
        the way up a level has the width of the one above it.
      patch_size: p > 1 makes p × p patches into channels before the first conv, and the logits out
        of the last conv by pixel shuffle. Not in the published network.
      projections: channels of the 1 × 1 convs that feature maps pass on their way in, in turn. Not
        in the published network.
      num_classes: of the output.
      dtype: compute dtype; parameters, running statistics and logits are float32.
      remat: recompute blocks in the backward pass instead of keeping their activations.
    """

    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8, 8)
    patch_size: int = 1
    projections: tuple[int, ...] = ()
    num_classes: int = 2
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: FeatureMaps, features: Sequence[Float[Array, "b _ _ _"]] = (), *, train: bool
    ) -> Float32[Array, "b h w {self.num_classes}"]:
        """Segments b images.

        Args:
          x: reconstruction, interpolated channel and input (c = 9); h and w multiples of
            patch_size · 2^(levels - 1).
          features: as many as ``projections``; each joins the level of its size.
          train: normalise by the batch's statistics, and update the running ones in the mutable
            collection ``batch_stats``; otherwise use the running ones.
        """
        check_size(x, self.patch_size, len(self.multipliers))
        block = nn.remat(ConvBlock, static_argnums=(2,)) if self.remat else ConvBlock
        block = functools.partial(block, dtype=self.dtype)
        widths = [self.channels * multiplier for multiplier in self.multipliers]

        h = layers.space_to_depth(x, self.patch_size).astype(self.dtype)
        projected = [
            layers.conv(x, width, name=f"project_{i}", dtype=self.dtype, kernel=1)
            for i, (x, width) in enumerate(zip(features, self.projections, strict=True))
        ]
        skips = []
        for level, width in enumerate(widths):
            if level > 0:
                h = layers.max_pool(h)
            h = jnp.concatenate([h, *(p for p in projected if p.shape[1:3] == h.shape[1:3])], -1)
            h = block(width, 2, name=f"down_{level}")(h, train)
            skips.append(h)
        skips.pop()  # the lowest level goes on by itself
        for level in reversed(range(len(skips))):
            width = widths[max(level - 1, 0)]
            h = layers.upsample_bilinear(h)
            h = block(width, 1, name=f"up_{level}")(h, train)
            h = jnp.concatenate([h, skips.pop()], axis=-1)
            h = block(width, 2, name=f"merge_{level}")(h, train)

        logits = layers.conv(
            h,
            self.num_classes * self.patch_size**2,
            name="conv_out",
            dtype=self.dtype,
            kernel_init=layers.normal_around(0.0, 0.02),
        )
        return layers.pixel_shuffle(logits.astype(jnp.float32), self.patch_size)
