"""The PatchGAN discriminator (Isola et al., CVPR 2017) with batch normalisation."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Float32

from diffad_jax.models import layers
from diffad_jax.models.layers import Dtype
from diffad_jax.types import Array, FeatureMaps, Images

MAX_MULTIPLIER = 8  # the widest layer has this many times ``channels``


class DiscriminatorBlock(nn.Module):
    """Conv 4×4 without bias, batch normalisation, leaky ReLU."""

    features: int
    strides: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: FeatureMaps, train: bool) -> Float[Array, "b _ _ {self.features}"]:
        x = layers.conv(
            x,
            self.features,
            name="conv",
            dtype=self.dtype,
            kernel=4,
            strides=self.strides,
            padding=1,
            use_bias=False,
            kernel_init=layers.normal_around(0.0, 0.02),
        )
        x = layers.batch_norm(x, name="norm", dtype=self.dtype, train=train)
        return nn.leaky_relu(x, 0.2)


class Discriminator(nn.Module):
    """Judges how real each patch of an image looks.

    Attributes:
      channels: width of the first layer; it doubles from layer to layer, up to 8 times.
      num_layers: strided layers.
      dtype: compute dtype; parameters, running statistics and logits are float32.
      remat: recompute blocks in the backward pass instead of keeping their activations.
    """

    channels: int = 64
    num_layers: int = 3
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Images, *, train: bool) -> Float32[Array, "b _ _ 1"]:
        """Judges b images.

        Args:
          image: photos and copies.
          train: normalise by the batch's statistics, and update the running ones in the mutable
            collection ``batch_stats``; otherwise use the running ones.

        Returns:
          Logits of h / 2^num_layers - 2 by w / 2^num_layers - 2 patches: larger is more real.
        """
        block = DiscriminatorBlock
        if self.remat:
            block = nn.remat(block, static_argnums=(2,))
        ends = {
            "dtype": self.dtype,
            "kernel": 4,
            "padding": 1,
            "kernel_init": layers.normal_around(0.0, 0.02),
        }
        h = layers.conv(image, self.channels, name="conv_in", strides=2, **ends)
        h = nn.leaky_relu(h, 0.2)
        for i in range(1, self.num_layers + 1):
            features = self.channels * min(2**i, MAX_MULTIPLIER)
            strides = 2 if i < self.num_layers else 1
            h = block(features, strides, self.dtype, name=f"block_{i}")(h, train)
        return layers.conv(h, 1, name="conv_out", **ends).astype(jnp.float32)
