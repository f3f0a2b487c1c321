"""Layers that networks share. Maps are NHWC; parameters are float32 whatever ``dtype`` is."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from diffad_jax.types import Array, FeatureMaps, Images

Dtype = Any  # what jnp.dtype takes: the compute dtype
Heads = Float[Array, "b h w heads d"]
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's photos, RGB in [0, 1]


def imagenet_standardised(image: Images) -> Float32[Array, "b h w 3"]:
    """Images normalised for networks trained on ImageNet."""
    mean, std = (np.asarray(x, np.float32)[None, None, None] for x in (_MEAN, _STD))
    return (image.astype(jnp.float32) - mean) / std


@jax.jit
def error_function(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """erf(x) to 6e-7 (Abramowitz and Stegun, 7.1.26).

    TensorFlow's StableHLO does not know JAX's own erf.
    """
    size = jnp.abs(x)
    t = 1.0 / (1.0 + 0.3275911 * size)
    rest = jnp.zeros_like(t)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        rest = (rest + coefficient) * t
    return jnp.sign(x) * (1.0 - rest * jnp.exp(-size * size))


def torch_uniform(fan_in: int) -> Callable[..., jax.Array]:
    """PyTorch's default for weights and biases: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def normal_around(mean: float, deviation: float) -> Callable[..., jax.Array]:
    """N(mean, deviation²)."""

    def init(key, shape, dtype=jnp.float32):
        return mean + deviation * jax.random.normal(key, shape, dtype)

    return init


def conv(
    x: FeatureMaps,
    features: int,
    *,
    name: str,
    dtype: Dtype,
    kernel: int = 3,
    strides: int = 1,
    padding: int | tuple[tuple[int, int], tuple[int, int]] | None = None,
    use_bias: bool = True,
    kernel_init: Callable[..., jax.Array] | None = None,
) -> Float[Array, "b _ _ {features}"]:
    """A convolution inside a compact module, initialised as PyTorch does it by default.

    Args:
      x: its input.
      features: output channels.
      name: of the parameters in the calling module.
      dtype: compute dtype.
      kernel: width and height.
      strides: of both axes.
      padding: pixels on every side, or ((top, bottom), (left, right)); None: kernel // 2.
      use_bias: whether a bias is added.
      kernel_init: replaces the default of the weights (not of the bias).
    """
    if padding is None:
        padding = kernel // 2
    default = torch_uniform(kernel * kernel * x.shape[-1])
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=strides,
        padding=padding,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=kernel_init or default,
        bias_init=default,
        name=name,
    )(x)


def zero_conv(
    x: FeatureMaps, features: int, *, name: str, dtype: Dtype, kernel: int = 3
) -> Float[Array, "b h w {features}"]:
    """A convolution that starts at zero, so that its block starts as the identity."""
    pad = kernel // 2
    zeros = nn.initializers.zeros
    return nn.Conv(
        features, (kernel, kernel), padding=pad, dtype=dtype, kernel_init=zeros, name=name
    )(x)


def dense(
    x: Float[Array, "*shape c"], features: int, *, name: str, dtype: Dtype
) -> Float[Array, "*shape {features}"]:
    """A linear layer inside a compact module, initialised as PyTorch does it by default."""
    init = torch_uniform(x.shape[-1])
    return nn.Dense(features, dtype=dtype, kernel_init=init, bias_init=init, name=name)(x)


def num_groups(channels: int) -> int:
    """Groups of a GroupNorm: 32 as published, fewer at widths below the published 128.

    It is the largest of 32, 16, … 1 that divides ``channels`` and leaves at least 4 of them in a
    group, as at 128. Groups of one channel would erase the mean of every channel.
    """
    fits = (g for g in (32, 16, 8, 4, 2) if channels % g == 0 and channels // g >= 4)
    return next(fits, 1)


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He, 2018) with statistics in float32.

    The reductions run over pixels first and leave the channels in the vector lanes; the reshape to
    groups then touches [b, c] numbers only. On CPUs that takes about half the time of a reduction
    over the map reshaped to groups.
    """

    epsilon: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: FeatureMaps) -> FeatureMaps:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x = x.astype(jnp.float32)
        centred = x - _group_mean(x)
        deviation = jax.lax.rsqrt(_group_mean(centred * centred) + self.epsilon)
        y = centred * (deviation * scale[None, None, None]) + bias[None, None, None]
        return y.astype(self.dtype)


def _group_mean(x: jax.Array) -> jax.Array:
    """[b, h, w, c] -> [b, 1, 1, c]: the mean over pixels and over the channels of a group."""
    batch, channels = x.shape[0], x.shape[-1]
    groups = num_groups(channels)
    mean = x.mean((1, 2)).reshape(batch, groups, -1).mean(-1)
    return jnp.repeat(mean, channels // groups, axis=-1)[:, None, None]


def batch_norm(x: FeatureMaps, *, name: str, dtype: Dtype, train: bool) -> FeatureMaps:
    """Batch normalisation inside a compact module, with PyTorch's settings and scale ~ N(1, 0.02²).

    A training step uses the batch's own (biased) variance, as PyTorch does. PyTorch then stores the
    unbiased one as its running variance: n / (n - 1) times what is stored here, for n pixels.

    Args:
      x: its input.
      name: of the parameters in the calling module.
      dtype: of the result; the statistics are float32.
      train: use the batch's statistics and update the running ones.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        scale_init=normal_around(1.0, 0.02),
        use_fast_variance=False,
        name=name,
    )(x)


def attend(query: Heads, key: Heads, value: Heads) -> Float[Array, "b h w heads*d"]:
    """softmax(q kᵀ / sqrt(d)) v over all pixels, the softmax in float32."""
    b, h, w, heads, d = query.shape
    tokens = (x.reshape(b, h * w, heads, d) for x in (query, key, value))
    return jax.nn.dot_product_attention(*tokens).reshape(b, h, w, heads * d)


def upsample_nearest(x: FeatureMaps) -> Float[Array, "b 2*h 2*w c"]:
    """Each pixel repeated."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def upsample_bilinear(x: FeatureMaps) -> Float[Array, "b 2*h 2*w c"]:
    """Bilinear with aligned corners (PyTorch's align_corners)."""
    rows, columns = (jnp.asarray(_interpolation(n), x.dtype) for n in x.shape[1:3])
    x = jnp.einsum("ph,bhwc->bpwc", rows, x, precision="highest")
    return jnp.einsum("qw,bpwc->bpqc", columns, x, precision="highest")


def _interpolation(n: int) -> np.ndarray:
    """[2n, n]: row i holds the weights by which n samples make sample i of 2n."""
    position = np.arange(2 * n) * (n - 1) / (2 * n - 1)
    return np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(n)[None]))


def max_pool(x: FeatureMaps) -> Float[Array, "b h//2 w//2 c"]:
    """The largest of 2 × 2 pixels; an odd last row or column is left out.

    It reshapes, because the gradient of ``reduce_window`` is slow on CPUs. It chooses, because the
    gradient of ``max`` compares a recomputed value with the maximum, and is NaN where rounding
    makes them differ. Among equal maxima the gradient goes to the first, as in PyTorch.
    """
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c)
    left, right = x[..., 0, :], x[..., 1, :]
    x = jnp.where(left >= right, left, right)
    top, bottom = x[:, :, 0], x[:, :, 1]
    return jnp.where(top >= bottom, top, bottom)


def reduction(patch_size: int, levels: int) -> int:
    """The factor by which a side shrinks: by patches, and by half at each level but the last."""
    return patch_size * 2 ** (levels - 1)


def space_to_depth(
    x: FeatureMaps, patch_size: int
) -> Float[Array, "b h//{patch_size} w//{patch_size} c*{patch_size}**2"]:
    """The pixels of each patch become channels, ordered (row, column, channel)."""
    if patch_size == 1:
        return x
    b, h, w, c = x.shape
    p = patch_size
    if h % p or w % p:
        raise ValueError(f"a map of {h} x {w} does not divide into patches of {p} x {p}")
    x = x.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // p, w // p, p * p * c)


def pixel_shuffle(
    x: FeatureMaps, patch_size: int
) -> Float[Array, "b h*{patch_size} w*{patch_size} c//{patch_size}**2"]:
    """Undoes ``space_to_depth``."""
    if patch_size == 1:
        return x
    b, h, w, c = x.shape
    p = patch_size
    x = x.reshape(b, h, w, p, p, c // (p * p)).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * p, w * p, c // (p * p))
