"""EfficientNet-Lite (Tan and Le, ICML 2019, without squeeze-and-excite) as a feature extractor.

The networks are TensorFlow's of 2020, with batch normalisation folded into each convolution. Their
features mean something only with trained weights (``convert.backbone``).
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32

from diffad_jax.models.layers import Dtype
from diffad_jax.types import Array, FeatureMaps, Images

LAYERS = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6", "stage7")
EPSILON = 1e-3  # of its batch normalisation
# Of each stage: kernel size, stride of its first block, expansion.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))


class EfficientNetLite(nn.Module):
    """The feature maps of an image after the named stages; deeper stages cost nothing.

    Attributes:
      names: of the stages, from ``LAYERS``.
      blocks: how many blocks each stage has.
      widths: channels behind each stage.
      channels: width of the first convolution.
      dtype: compute dtype; parameters and features are float32.
    """

    names: tuple[str, ...]
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    channels: int = 32
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Images) -> dict[str, Float32[Array, "b _ _ _"]]:
        """The features of each stage in ``names``; their channels are as in ``widths``.

        Height and width are those of the image divided by 2, 4, 8, 16, 16, 32, 32, rounded up.

        Args:
          image: it is taken at its own size.

        Raises:
          ValueError: a name is unknown, or there is none.
        """
        unknown = [name for name in self.names if name not in LAYERS]
        if unknown or not self.names:
            found = ", ".join(map(repr, unknown)) or "none"
            raise ValueError(
                f"an EfficientNet-Lite needs names of its stages, got {found}: {', '.join(LAYERS)}"
            )
        x = (image.astype(jnp.float32) * 255.0 - 127.0) / 128.0
        x = nn.relu6(self._conv("stem", x, self.channels, 3, strides=2))
        features, index = {}, 0
        for i, name in enumerate(LAYERS[: max(map(LAYERS.index, self.names)) + 1]):
            size, strides, expansion = _STAGES[i]
            for j in range(self.blocks[i]):
                x = self._block(index, x, self.widths[i], size, 1 if j else strides, expansion)
                index += 1
            if name in self.names:
                features[name] = x.astype(jnp.float32)
        return features

    def _block(self, index: int, x: jax.Array, width: int, size: int, strides: int, expansion: int):
        h, inner = x, x.shape[-1] * expansion
        if expansion > 1:
            h = nn.relu6(self._conv(f"block{index}_expand", h, inner, 1))
        h = nn.relu6(Depthwise(inner, size, strides, self.dtype, name=f"block{index}_depthwise")(h))
        h = self._conv(f"block{index}_project", h, width, 1)
        return h + x if strides == 1 and width == x.shape[-1] else h

    def _conv(self, name: str, x: jax.Array, features: int, size: int, strides: int = 1):
        conv = nn.Conv(features, (size, size), strides, "SAME", dtype=self.dtype, name=name)
        return conv(x)


class Depthwise(nn.Module):
    """A convolution of each channel by itself, with bias; "SAME" padding."""

    channels: int
    size: int
    strides: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: FeatureMaps) -> Float[Array, "b _ _ c"]:
        shape = (self.size, self.size, 1, self.channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(in_axis=(0, 1, 2)), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        # XLA's own takes six times as long as this on a CPU.
        convolve = shifted_products if jax.default_backend() == "cpu" else grouped
        return self.convolved(x, kernel, bias, convolve)

    def convolved(self, x: jax.Array, kernel: jax.Array, bias: jax.Array, convolve: Callable):
        """See ``__call__``; ``convolve`` is one of the two below."""
        x, kernel, bias = (v.astype(self.dtype) for v in (x, kernel, bias))
        padding = jax.lax.padtype_to_pads(
            x.shape[1:3], (self.size,) * 2, (self.strides,) * 2, "SAME"
        )
        return convolve(x, kernel, self.strides, padding) + bias[None, None, None]


def grouped(
    x: FeatureMaps, kernel: Float[Array, "k k 1 c"], strides: int, padding
) -> Float[Array, "b _ _ c"]:
    """XLA's depthwise convolution."""
    return jax.lax.conv_general_dilated(
        x, kernel, (strides,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )  # fmt: skip


def shifted_products(
    x: FeatureMaps, kernel: Float[Array, "k k 1 c"], strides: int, padding
) -> Float[Array, "b _ _ c"]:
    """The same as a sum of k² products: XLA fuses them into one loop over the channels."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    size = len(kernel)
    height, width = ((n - size) // strides + 1 for n in x.shape[1:3])
    total = None
    for i in range(size):
        for j in range(size):
            rows = x[:, i : i + strides * (height - 1) + 1 : strides]
            part = (
                rows[:, :, j : j + strides * (width - 1) + 1 : strides] * kernel[i, j][None, None]
            )
            total = part if total is None else total + part
    return total


def efficientnet_lite0(names: tuple[str, ...], dtype: Dtype = jnp.float32) -> EfficientNetLite:
    blocks, widths = (1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)
    return EfficientNetLite(names, blocks, widths, dtype=dtype)


def efficientnet_lite2(names: tuple[str, ...], dtype: Dtype = jnp.float32) -> EfficientNetLite:
    blocks, widths = (1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)
    return EfficientNetLite(names, blocks, widths, dtype=dtype)
