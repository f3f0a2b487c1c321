"""The conditional denoiser ε_θ: the U-Net of guided diffusion (Dhariwal & Nichol, 2021)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Num

from diffad_jax.errors import UserError
from diffad_jax.models import layers
from diffad_jax.models.layers import Dtype
from diffad_jax.types import Array, FeatureMaps

EPSILON = 1e-5  # of every GroupNorm here
MAX_PERIOD = 10_000.0  # of the time embedding


def timestep_embedding(t: Num[Array, " b"], channels: int) -> Float32[Array, "b {channels}"]:
    """cos and sin of t at geometrically spaced frequencies from 1 down to 1/10000.

    ``channels`` are even. The cosines come first.
    """
    half = channels // 2
    exponents = jnp.arange(half, dtype=jnp.float32) / half
    angles = t.astype(jnp.float32)[:, None] * (MAX_PERIOD**-exponents)[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class ResidualBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x))) + time))); the last conv starts at zero."""

    features: int
    dtype: Dtype

    @nn.compact
    def __call__(
        self, x: FeatureMaps, time: Float[Array, "b e"]
    ) -> Float[Array, "b h w {self.features}"]:
        """``time`` is the time embedding."""
        h = nn.swish(layers.GroupNorm(EPSILON, self.dtype, name="norm_1")(x))
        h = layers.conv(h, self.features, name="conv_1", dtype=self.dtype)
        time = layers.dense(nn.swish(time), self.features, name="time", dtype=self.dtype)
        h = h + time[:, None, None]
        h = nn.swish(layers.GroupNorm(EPSILON, self.dtype, name="norm_2")(h))
        h = layers.zero_conv(h, self.features, name="conv_2", dtype=self.dtype)
        if x.shape[-1] != self.features:
            x = layers.conv(x, self.features, name="shortcut", dtype=self.dtype, kernel=1)
        return x + h


class AttentionBlock(nn.Module):
    """x + multi-head self-attention over all pixels; the last conv starts at zero.

    The output channels of ``qkv`` are ordered (head, q | k | v, channel), as in the published
    weights.
    """

    head_channels: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: FeatureMaps) -> FeatureMaps:
        """c must be a multiple of ``head_channels``."""
        batch, height, width, channels = x.shape
        heads, left = divmod(channels, self.head_channels)
        if left:
            raise UserError(
                f"attention at {channels} channels cannot have heads of {self.head_channels}: set "
                "config.diffusion.head_channels to a divisor of its channels at every level"
            )
        h = layers.GroupNorm(EPSILON, self.dtype, name="norm")(x)
        qkv = layers.conv(h, 3 * channels, name="qkv", dtype=self.dtype, kernel=1)
        qkv = qkv.reshape(batch, height, width, heads, 3, self.head_channels)
        h = layers.attend(qkv[..., 0, :], qkv[..., 1, :], qkv[..., 2, :])
        return x + layers.zero_conv(h, channels, name="out", dtype=self.dtype, kernel=1)


class UNet(nn.Module):
    """ε_θ(z_t, t, c): the condition is concatenated to z_t along the channels.

    Attributes:
      channels: width of the first level; the time embedding has four times as many.
      multipliers: width of each level in units of ``channels``; all but the last halve the map.
      num_res_blocks: residual blocks a level on the way down; on the way up there is one more.
      attention_downsampling: attention follows the residual blocks where the map is this many
        times smaller than the input.
      head_channels: of each attention head; must divide the width of every level with attention.
      out_channels: of the output.
      linear_skip: adds a linear map of the input, with gains that depend on t, through gates from 0
        to 2 that the blocks set at each position. Where the condition is the answer up to noise,
        the blocks need not learn to copy it, which their normalisation makes hard. Where it shows a
        defect, they need not undo the copy. Not in the published network.
      dtype: compute dtype; parameters, time embedding and output are float32.
      remat: recompute blocks in the backward pass instead of keeping their activations.
    """

    channels: int = 256
    multipliers: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 2
    attention_downsampling: tuple[int, ...] = (1, 2, 4)
    head_channels: int = 32
    out_channels: int = 4
    linear_skip: bool = False
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: FeatureMaps, t: Num[Array, " b"], label: Float32[Array, "b n"] | None = None
    ) -> Float32[Array, "b h w {self.out_channels}"]:
        """One evaluation.

        Args:
          x: h and w multiples of 2^(levels - 1).
          t: timesteps, integer or not.
          label: its linear map is added to the time embedding. Not in the published network.
        """
        dtype = self.dtype
        time = self._time(t)
        if label is not None:
            time += self._label(label)
        h = layers.conv(x, self.channels, name="conv_in", dtype=dtype)
        skips = [h]
        for level, multiplier in enumerate(self.multipliers):
            features = self.channels * multiplier
            for i in range(self.num_res_blocks):
                h = self._blocks(h, time, features, level, f"down_{level}", i)
                skips.append(h)
            if level < len(self.multipliers) - 1:
                name = f"down_{level}_downsample"
                h = layers.conv(h, features, name=name, dtype=dtype, strides=2, padding=1)
                skips.append(h)

        h = self._residual(h.shape[-1], "middle_res_0")(h, time)
        h = self._attention("middle_attention")(h)
        h = self._residual(h.shape[-1], "middle_res_1")(h, time)

        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            features = self.channels * multiplier
            for i in range(self.num_res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = self._blocks(h, time, features, level, f"up_{level}", i)
            if level > 0:
                h = layers.upsample_nearest(h)
                h = layers.conv(h, features, name=f"up_{level}_upsample", dtype=dtype)

        h = nn.swish(layers.GroupNorm(EPSILON, dtype, name="norm_out")(h))
        out = layers.zero_conv(h, self.out_channels, name="conv_out", dtype=dtype)
        if self.linear_skip:
            gain = layers.dense(nn.swish(time), x.shape[-1], name="skip_gain", dtype=jnp.float32)
            scaled = x * (1.0 + gain[:, None, None])
            skip = layers.zero_conv(scaled, self.out_channels, name="skip", dtype=dtype, kernel=1)
            gate = layers.zero_conv(h, self.out_channels, name="skip_gate", dtype=dtype)
            out += 2.0 * nn.sigmoid(gate) * skip
        return out.astype(jnp.float32)

    def _time(self, t: jax.Array) -> jax.Array:
        """[b] -> [b, 4 · channels]."""
        embed = functools.partial(layers.dense, features=4 * self.channels, dtype=jnp.float32)
        h = embed(timestep_embedding(t, self.channels), name="time_0")
        return embed(nn.swish(h), name="time_1")

    def _label(self, label: jax.Array) -> jax.Array:
        """[b, n] -> [b, 4 · channels]."""
        init = layers.torch_uniform(label.shape[-1])
        return nn.Dense(4 * self.channels, use_bias=False, kernel_init=init, name="label")(label)

    def _blocks(self, h, time, features: int, level: int, place: str, i: int) -> jax.Array:
        """One residual block, with attention after it where the level has it."""
        h = self._residual(features, f"{place}_res_{i}")(h, time)
        if 2**level in self.attention_downsampling:
            h = self._attention(f"{place}_attention_{i}")(h)
        return h

    def _residual(self, features: int, name: str) -> nn.Module:
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        return block(features, self.dtype, name=name)

    def _attention(self, name: str) -> nn.Module:
        block = nn.remat(AttentionBlock) if self.remat else AttentionBlock
        return block(self.head_channels, self.dtype, name=name)
