"""ResNets (He et al., CVPR 2016; wide: Zagoruyko and Komodakis, BMVC 2016) as feature extractors.

The networks are those of torchvision, with batch normalisation folded into each convolution. Their
features mean something only with trained weights (``convert.backbone``).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float32

from diffad_jax.models.layers import Dtype, imagenet_standardised
from diffad_jax.types import Array, Images

LAYERS = ("layer1", "layer2", "layer3", "layer4")  # each but the first halves the map


class ResNet(nn.Module):
    """The feature maps of an image after the named layers; deeper layers cost nothing.

    Attributes:
      names: of the layers, from ``LAYERS``.
      blocks: how many blocks each layer has.
      bottleneck: blocks of 1 × 1, 3 × 3, 1 × 1 convolutions, four times as wide outside as inside;
        otherwise of two 3 × 3.
      inner_width: multiple of the width inside a bottleneck; 2 for the wide network.
      channels: width of the first convolution; the others are in proportion.
      dtype: compute dtype; parameters and features are float32.
    """

    names: tuple[str, ...]
    blocks: tuple[int, int, int, int]
    bottleneck: bool
    inner_width: int = 1
    channels: int = 64
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Images) -> dict[str, Float32[Array, "b _ _ _"]]:
        """Features ≥ 0 of each layer in ``names``.

        ``layer1`` is a quarter as high and wide as the image, each later one half as much; c is
        64, 128, 256, 512, and four times that with bottlenecks.

        Args:
          image: it is taken at its own size.

        Raises:
          ValueError: a name is unknown, or there is none.
        """
        unknown = [name for name in self.names if name not in LAYERS]
        if unknown or not self.names:
            found = ", ".join(map(repr, unknown)) or "none"
            raise ValueError(
                f"a ResNet needs names of its layers, got {found}: {', '.join(LAYERS)}"
            )
        x = imagenet_standardised(image)
        x = nn.relu(self._conv("conv1", x, self.channels, 7, strides=2))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        features = {}
        for i, name in enumerate(LAYERS[: max(map(LAYERS.index, self.names)) + 1]):
            for j in range(self.blocks[i]):
                strides = 2 if i and not j else 1
                x = self._block(f"{name}_{j}", x, self.channels * 2**i, strides)
            if name in self.names:
                features[name] = x.astype(jnp.float32)
        return features

    def _block(self, name: str, x: jax.Array, width: int, strides: int) -> jax.Array:
        if self.bottleneck:
            inner, width = width * self.inner_width, 4 * width
            h = nn.relu(self._conv(f"{name}_conv1", x, inner, 1))
            h = nn.relu(self._conv(f"{name}_conv2", h, inner, 3, strides))
            h = self._conv(f"{name}_conv3", h, width, 1)
        else:
            h = nn.relu(self._conv(f"{name}_conv1", x, width, 3, strides))
            h = self._conv(f"{name}_conv2", h, width, 3)
        if strides > 1 or x.shape[-1] != width:
            x = self._conv(f"{name}_downsample", x, width, 1, strides)
        return nn.relu(x + h)

    def _conv(self, name: str, x: jax.Array, features: int, size: int, strides: int = 1):
        padding = size // 2  # on each side, as PyTorch; "SAME" would shift strided ones
        conv = nn.Conv(features, (size, size), strides, padding, dtype=self.dtype, name=name)
        return conv(x)


def resnet18(names: tuple[str, ...], dtype: Dtype = jnp.float32) -> ResNet:
    return ResNet(names, (2, 2, 2, 2), bottleneck=False, dtype=dtype)


def wide_resnet50_2(names: tuple[str, ...], dtype: Dtype = jnp.float32) -> ResNet:
    return ResNet(names, (3, 4, 6, 3), bottleneck=True, inner_width=2, dtype=dtype)
