"""The denoiser ε_θ: the U-Net of guided diffusion (Dhariwal and Nichol 2021) at DiffAD's sizes."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffad_jax.models import layers


def timestep_embedding(t: jax.Array, features: int, max_period: float = 10_000.0) -> jax.Array:
    """Sinusoids of t, cosines first: [b] -> [b, features] float32."""
    half = features // 2
    frequencies = jnp.exp(-math.log(max_period) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = t.astype(jnp.float32)[:, None] * frequencies[None]
    embedding = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return jnp.pad(embedding, ((0, 0), (0, features % 2)))


class ResBlock(nn.Module):
    """norm, silu, conv, plus the timestep; norm, silu, zero conv, plus the (projected) input."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, time: jax.Array) -> jax.Array:
        h = nn.silu(layers.GroupNorm(dtype=self.dtype, name="in_norm")(x))
        h = layers.conv(self.features, dtype=self.dtype, name="in_conv")(h)
        shift = nn.Dense(self.features, dtype=self.dtype, name="time")(nn.silu(time))
        h = h + shift[:, None, None, :]
        h = nn.silu(layers.GroupNorm(dtype=self.dtype, name="out_norm")(h))
        zeros = nn.initializers.zeros
        h = layers.conv(self.features, dtype=self.dtype, name="out_conv", kernel_init=zeros)(h)
        if x.shape[-1] != self.features:
            x = layers.conv(self.features, 1, dtype=self.dtype, name="skip")(x)
        return x + h


class AttentionBlock(nn.Module):
    """Self-attention over all positions; the channels of ``qkv`` are grouped by head."""

    head_channels: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        heads = c // self.head_channels
        normed = layers.GroupNorm(dtype=self.dtype, name="norm")(x).reshape(b, h * w, c)
        qkv = nn.Dense(3 * c, dtype=self.dtype, name="qkv")(normed)
        q, k, v = jnp.split(qkv.reshape(b, h * w, heads, 3 * self.head_channels), 3, axis=-1)
        out = layers.attention(q, k, v).reshape(b, h * w, c)
        out = nn.Dense(c, dtype=self.dtype, name="proj", kernel_init=nn.initializers.zeros)(out)
        return x + out.reshape(b, h, w, c)


class UNet(nn.Module):
    """(x [b, h, w, c], t [b]) -> [b, h, w, out_channels] float32.

    ``attention_downsampling`` lists the factors below the input's size at which blocks attend.
    """

    channels: int = 256
    multipliers: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 2
    attention_downsampling: tuple[int, ...] = (1, 2, 4)
    head_channels: int = 32
    out_channels: int = 4
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        res_block = nn.remat(ResBlock) if self.remat else ResBlock
        time = nn.Dense(4 * self.channels, dtype=self.dtype, name="time_1")(
            timestep_embedding(t, self.channels)
        )
        time = nn.Dense(4 * self.channels, dtype=self.dtype, name="time_2")(nn.silu(time))

        def block(h: jax.Array, features: int, factor: int, name: str) -> jax.Array:
            h = res_block(features, self.dtype, name=f"{name}_res")(h, time)
            if factor in self.attention_downsampling:
                h = AttentionBlock(self.head_channels, self.dtype, name=f"{name}_attn")(h)
            return h

        h = layers.conv(self.channels, dtype=self.dtype, name="conv_in")(x.astype(self.dtype))
        skips = [h]
        last = len(self.multipliers) - 1
        for level, multiplier in enumerate(self.multipliers):
            features = self.channels * multiplier
            for i in range(self.num_res_blocks):
                h = block(h, features, 2**level, f"down_{level}_{i}")
                skips.append(h)
            if level < last:
                name = f"down_{level}_downsample"
                h = layers.conv(features, dtype=self.dtype, name=name, strides=2)(h)
                skips.append(h)

        features = h.shape[-1]
        h = res_block(features, self.dtype, name="mid_res_1")(h, time)
        h = AttentionBlock(self.head_channels, self.dtype, name="mid_attn")(h)
        h = res_block(features, self.dtype, name="mid_res_2")(h, time)

        for level in reversed(range(len(self.multipliers))):
            features = self.channels * self.multipliers[level]
            for i in range(self.num_res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(h, features, 2**level, f"up_{level}_{i}")
            if level:
                h = layers.upsample_nearest(h)
                h = layers.conv(features, dtype=self.dtype, name=f"up_{level}_upsample")(h)

        h = nn.silu(layers.GroupNorm(dtype=self.dtype, name="norm_out")(h))
        zeros = nn.initializers.zeros
        h = layers.conv(self.out_channels, dtype=self.dtype, name="conv_out", kernel_init=zeros)(h)
        return h.astype(jnp.float32)
