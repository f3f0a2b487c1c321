"""The KL autoencoder of latent diffusion (Rombach et al. 2022) at DiffAD's sizes.

The defaults are the published network. ``patch_size`` p > 1 puts p × p patches of the photo on
each pixel of the first map, and shuffles them back at the end: the same width on smaller maps.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffad_jax.models import layers

_EPSILON = 1e-6


class ResBlock(nn.Module):
    """norm, swish, conv, norm, swish, dropout, conv, plus the (projected) input."""

    features: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        h = nn.swish(layers.GroupNorm(_EPSILON, self.dtype, name="norm1")(x))
        h = layers.conv(self.features, dtype=self.dtype, name="conv1")(h)
        h = nn.swish(layers.GroupNorm(_EPSILON, self.dtype, name="norm2")(h))
        h = nn.Dropout(self.dropout)(h, deterministic=deterministic)
        h = layers.conv(self.features, dtype=self.dtype, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = layers.conv(self.features, 1, dtype=self.dtype, name="nin_shortcut")(x)
        return x + h


class AttentionBlock(nn.Module):
    """Self-attention with one head over all positions of the map."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        normed = layers.GroupNorm(_EPSILON, self.dtype, name="norm")(x)
        q, k, v = (
            layers.conv(c, 1, dtype=self.dtype, name=name)(normed).reshape(b, h * w, 1, c)
            for name in ("q", "k", "v")
        )
        out = layers.attention(q, k, v).reshape(b, h, w, c)
        return x + layers.conv(c, 1, dtype=self.dtype, name="proj_out")(out)


class _Middle(nn.Module):
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        features = x.shape[-1]
        x = ResBlock(features, self.dropout, self.dtype, name="block_1")(x, deterministic)
        x = AttentionBlock(self.dtype, name="attn_1")(x)
        return ResBlock(features, self.dropout, self.dtype, name="block_2")(x, deterministic)


class Encoder(nn.Module):
    """[b, h, w, 3] -> moments [b, h/f, w/f, 2 · latent_channels], f = p · 2^(levels − 1)."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4
    patch_size: int = 1
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: jax.Array, deterministic: bool = True) -> jax.Array:
        block = nn.remat(ResBlock, static_argnums=(2,)) if self.remat else ResBlock
        h = layers.space_to_depth(image.astype(self.dtype), self.patch_size)
        h = layers.conv(self.channels, dtype=self.dtype, name="conv_in")(h)
        for level, multiplier in enumerate(self.multipliers):
            features = self.channels * multiplier
            for i in range(self.num_res_blocks):
                name = f"down_{level}_block_{i}"
                h = block(features, self.dropout, self.dtype, name=name)(h, deterministic)
            if level < len(self.multipliers) - 1:
                # Padded at the far edges only, as published.
                name, padding = f"down_{level}_downsample", ((0, 1), (0, 1))
                h = layers.conv(
                    features, dtype=self.dtype, name=name, strides=2, padding=padding
                )(h)
        h = _Middle(self.dropout, self.dtype, name="mid")(h, deterministic)
        h = nn.swish(layers.GroupNorm(_EPSILON, self.dtype, name="norm_out")(h))
        return layers.conv(2 * self.latent_channels, dtype=self.dtype, name="conv_out")(h)


class Decoder(nn.Module):
    """Latent [b, h/f, w/f, latent_channels] -> image [b, h, w, 3], not clipped."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    patch_size: int = 1
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, z: jax.Array, deterministic: bool = True) -> jax.Array:
        block = nn.remat(ResBlock, static_argnums=(2,)) if self.remat else ResBlock
        features = self.channels * self.multipliers[-1]
        h = layers.conv(features, dtype=self.dtype, name="conv_in")(z)
        h = _Middle(self.dropout, self.dtype, name="mid")(h, deterministic)
        for level in reversed(range(len(self.multipliers))):
            features = self.channels * self.multipliers[level]
            for i in range(self.num_res_blocks + 1):
                name = f"up_{level}_block_{i}"
                h = block(features, self.dropout, self.dtype, name=name)(h, deterministic)
            if level:
                h = layers.upsample_nearest(h)
                h = layers.conv(features, dtype=self.dtype, name=f"up_{level}_upsample")(h)
        h = nn.swish(layers.GroupNorm(_EPSILON, self.dtype, name="norm_out")(h))
        h = layers.conv(3 * self.patch_size**2, dtype=self.dtype, name="conv_out")(h)
        return layers.depth_to_space(h, self.patch_size)


class Autoencoder(nn.Module):
    """E and D with the two 1 × 1 convolutions between them."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4
    patch_size: int = 1
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self) -> None:
        shared = dict(
            channels=self.channels,
            multipliers=self.multipliers,
            num_res_blocks=self.num_res_blocks,
            patch_size=self.patch_size,
            dropout=self.dropout,
            dtype=self.dtype,
            remat=self.remat,
        )
        self.encoder = Encoder(latent_channels=self.latent_channels, **shared)
        self.decoder = Decoder(**shared)
        self.quant_conv = nn.Conv(2 * self.latent_channels, (1, 1), dtype=self.dtype)
        self.post_quant_conv = nn.Conv(self.latent_channels, (1, 1), dtype=self.dtype)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Copies the image through the posterior's mode."""
        return self.decode(self.encode(image)[0])

    def encode(
        self, image: jax.Array, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """q(z|x): mean and log-variance, each [b, h/f, w/f, latent_channels] float32.

        Args:
          image: [b, h, w, 3] in [0, 1].
          deterministic: without dropout.
        """
        moments = self.quant_conv(self.encoder(image, deterministic)).astype(jnp.float32)
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return mean, jnp.clip(logvar, -30.0, 20.0)

    def decode(self, z: jax.Array, deterministic: bool = True) -> jax.Array:
        """[b, h/f, w/f, latent_channels] -> image [b, h, w, 3] float32, not clipped."""
        return self.decoder(self.post_quant_conv(z), deterministic).astype(jnp.float32)
