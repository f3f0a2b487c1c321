"""DRAEM's discriminative U-Net (Zavrtanik et al. 2021), DiffAD's third stage."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffad_jax.models import layers


class ConvNormRelu(nn.Module):
    """3 × 3 convolution, batch normalisation, ReLU; weights drawn as published."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = layers.conv(
            self.features,
            dtype=self.dtype,
            name="conv",
            kernel_init=nn.initializers.normal(0.02),
        )(x)
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            scale_init=_around_one,
            name="norm",
        )(x)
        return nn.relu(x)


class Segmenter(nn.Module):
    """x [b, h, w, c] -> logits [b, h, w, num_classes] float32.

    h and w must be multiples of ``patch_size`` · 2^(levels − 1). ``patch_size`` p > 1 works on
    p × p patches and shuffles the logits back to full size. Holds running statistics in
    ``batch_stats``.
    """

    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8, 8)
    patch_size: int = 1
    num_classes: int = 2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        widths = [self.channels * m for m in self.multipliers]

        def pair(h: jax.Array, features: int, name: str) -> jax.Array:
            h = ConvNormRelu(features, self.dtype, name=f"{name}_0")(h, train)
            return ConvNormRelu(features, self.dtype, name=f"{name}_1")(h, train)

        h = layers.space_to_depth(x.astype(self.dtype), self.patch_size)
        skips = []
        for level, features in enumerate(widths):
            h = pair(h if level == 0 else layers.max_pool(h), features, f"down_{level}")
            skips.append(h)
        skips.pop()
        for level in reversed(range(len(widths) - 1)):
            # On the way up a level is as wide as the one above it was on the way down.
            features = widths[max(level - 1, 0)]
            h = layers.upsample_bilinear(h)
            h = ConvNormRelu(features, self.dtype, name=f"up_{level}_in")(h, train)
            h = pair(jnp.concatenate([h, skips.pop()], axis=-1), features, f"up_{level}")
        h = layers.conv(
            self.num_classes * self.patch_size**2,
            dtype=self.dtype,
            name="conv_out",
            kernel_init=nn.initializers.normal(0.02),
        )(h)
        return layers.depth_to_space(h, self.patch_size).astype(jnp.float32)


def _around_one(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)
