"""Inception-v3 (Szegedy et al., CVPR 2016) as the graph of 2015-12-05 computes it.

FID (Heusel et al., NeurIPS 2017) is defined on that graph. Batch normalisation is folded into each
convolution. Two things differ from the better known later versions: average pools count only the
pixels inside the map, and the pool of ``mixed_10`` takes maxima. Layers and parameters have the
graph's names, with ``_`` for its ``/``. Features mean something only with the trained weights
(``pretrained.load_inception``).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from diffad_jax.models.layers import Dtype
from diffad_jax.models.lpips import _unit_length
from diffad_jax.types import Array, FeatureMaps, Images

INPUT_SIZE = 299  # pixels a side, at which the network was trained and FID is defined
SMALLEST_INPUT = 75  # pixels a side that leave one to mixed_8
LAYERS = (  # in the order in which they are computed
    *("conv", "conv_1", "conv_2", "pool", "conv_3", "conv_4", "pool_1"),
    *("mixed", *(f"mixed_{i}" for i in range(1, 11))),
)


class Inception(nn.Module):
    """The feature maps of an image after the named layers; deeper layers cost nothing.

    Attributes:
      names: of the layers, from ``LAYERS``.
      channels: width of the first convolution, even; the others are in proportion.
      dtype: compute dtype; parameters and features are float32.
    """

    names: tuple[str, ...]
    channels: int = 32
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Images) -> dict[str, Float32[Array, "b _ _ _"]]:
        """Features ≥ 0 of each layer in ``names``.

        At 299 × 299 pixels and the published width these are, as h × w × c: conv_2 147·147·64,
        conv_4 71·71·192, mixed 35·35·256, mixed_1 and mixed_2 35·35·288, mixed_3 to mixed_7
        17·17·768, mixed_8 8·8·1280, mixed_9 and mixed_10 8·8·2048; pool and pool_1 are 73·73·64 and
        35·35·192.

        Args:
          image: at least 75 pixels high and wide; it is taken at its own size (see ``resize``).

        Raises:
          ValueError: a name is unknown, there is none, or the image is too small.
        """
        _check(self.names, image.shape)
        h = (image.astype(jnp.float32) * 255.0 - 128.0) / 128.0
        features = {}
        for name in LAYERS[: max(map(LAYERS.index, self.names)) + 1]:
            h = self._layer(name, h)
            if name in self.names:
                features[name] = h.astype(jnp.float32)
        return features

    def _layer(self, name: str, x: jax.Array) -> jax.Array:
        match name:
            case "conv":
                return self._conv(name, x, 32, (3, 3), strides=2, padding="VALID")
            case "conv_1":
                return self._conv(name, x, 32, (3, 3), padding="VALID")
            case "conv_2":
                return self._conv(name, x, 64, (3, 3))
            case "conv_3":
                return self._conv(name, x, 80, (1, 1))
            case "conv_4":
                return self._conv(name, x, 192, (3, 3), padding="VALID")
            case "pool" | "pool_1":
                return _halve(x)
            case "mixed" | "mixed_1" | "mixed_2":
                return self._block_35(name, x, pooled=32 if name == "mixed" else 64)
            case "mixed_3":
                return self._block_35_to_17(name, x)
            case "mixed_4" | "mixed_5" | "mixed_6" | "mixed_7":
                widths = {"mixed_4": 128, "mixed_5": 160, "mixed_6": 160, "mixed_7": 192}
                return self._block_17(name, x, widths[name])
            case "mixed_8":
                return self._block_17_to_8(name, x)
            case "mixed_9":
                return self._block_8(name, x, _average(x))
            case _:  # mixed_10
                return self._block_8(name, x, _maximum(x))

    def _block_35(self, name: str, x: jax.Array, pooled: int) -> jax.Array:
        towers = (
            self._chain(f"{name}_conv", x, (64, 1, 1)),
            self._chain(f"{name}_tower_conv", x, (48, 1, 1), (64, 5, 5)),
            self._chain(f"{name}_tower_1_conv", x, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
            self._chain(f"{name}_tower_2_conv", _average(x), (pooled, 1, 1)),
        )
        return jnp.concatenate(towers, axis=-1)

    def _block_35_to_17(self, name: str, x: jax.Array) -> jax.Array:
        deep = ((64, 1, 1), (96, 3, 3), (96, 3, 3))
        towers = (
            self._chain(f"{name}_conv", x, (384, 3, 3), halve=True),
            self._chain(f"{name}_tower_conv", x, *deep, halve=True),
            _halve(x),
        )
        return jnp.concatenate(towers, axis=-1)

    def _block_17(self, name: str, x: jax.Array, width: int) -> jax.Array:
        row, column = (width, 1, 7), (width, 7, 1)
        deep = ((width, 1, 1), column, row, column, (192, 1, 7))
        towers = (
            self._chain(f"{name}_conv", x, (192, 1, 1)),
            self._chain(f"{name}_tower_conv", x, (width, 1, 1), row, (192, 7, 1)),
            self._chain(f"{name}_tower_1_conv", x, *deep),
            self._chain(f"{name}_tower_2_conv", _average(x), (192, 1, 1)),
        )
        return jnp.concatenate(towers, axis=-1)

    def _block_17_to_8(self, name: str, x: jax.Array) -> jax.Array:
        deep = ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3))
        towers = (
            self._chain(f"{name}_tower_conv", x, (192, 1, 1), (320, 3, 3), halve=True),
            self._chain(f"{name}_tower_1_conv", x, *deep, halve=True),
            _halve(x),
        )
        return jnp.concatenate(towers, axis=-1)

    def _block_8(self, name: str, x: jax.Array, pooled: jax.Array) -> jax.Array:
        tower = self._chain(f"{name}_tower_conv", x, (384, 1, 1))
        tower_1 = self._chain(f"{name}_tower_1_conv", x, (448, 1, 1), (384, 3, 3))
        towers = (
            self._chain(f"{name}_conv", x, (320, 1, 1)),
            self._conv(f"{name}_tower_mixed_conv", tower, 384, (1, 3)),
            self._conv(f"{name}_tower_mixed_conv_1", tower, 384, (3, 1)),
            self._conv(f"{name}_tower_1_mixed_conv", tower_1, 384, (1, 3)),
            self._conv(f"{name}_tower_1_mixed_conv_1", tower_1, 384, (3, 1)),
            self._chain(f"{name}_tower_2_conv", pooled, (192, 1, 1)),
        )
        return jnp.concatenate(towers, axis=-1)

    def _chain(
        self, name: str, x: jax.Array, *convs: tuple[int, int, int], halve: bool = False
    ) -> jax.Array:
        """Convs of (features, height, width), named name, name_1, …; the last one may halve x."""
        for i, (features, height, width) in enumerate(convs):
            halves = halve and i == len(convs) - 1
            x = self._conv(
                f"{name}_{i}" if i else name,
                x,
                features,
                (height, width),
                strides=2 if halves else 1,
                padding="VALID" if halves else "SAME",
            )
        return x

    def _conv(
        self,
        name: str,
        x: jax.Array,
        features: int,
        kernel: tuple[int, int],
        *,
        strides: int = 1,
        padding: str = "SAME",
    ) -> jax.Array:
        features = features * self.channels // 32
        conv = nn.Conv(features, kernel, strides, padding, dtype=self.dtype, name=name)
        return nn.relu(conv(x))


class InceptionDistance(nn.Module):
    """A perceptual distance, as LPIPS (Zhang et al., CVPR 2018) with equal weights, on Inception.

    Its parameters are those of ``Inception`` with the same names; fields: see there.
    """

    names: tuple[str, ...] = ("conv_2", "conv_4", "mixed_2", "mixed_7")
    channels: int = 32
    dtype: Dtype = jnp.float32

    def setup(self):
        self.inception = Inception(self.names, self.channels, self.dtype)
        nn.share_scope(self, self.inception)

    def __call__(self, image: Images, reference: Images) -> Float32[Array, " b"]:
        """Σ over layers of the mean over pixels and channels of (f̂(image) - f̂(reference))².

        f̂ are a layer's features divided by their length at each pixel, so c channels bound a
        layer's term by 2 / c.

        Args:
          image, reference: at least 75 pixels high and wide; they are not resized.

        Returns:
          ≥ 0, 0 for equal images.

        Raises:
          ValueError: as ``Inception``.
        """
        # Two calls, not one of both, so that only the differentiated image keeps its activations.
        ours, theirs = self.inception(image), self.inception(reference)
        squares = [(_unit_length(ours[n]) - _unit_length(theirs[n])) ** 2 for n in self.names]
        return sum((s.mean((1, 2, 3)) for s in squares), jnp.zeros(image.shape[0]))


def resize(image: FeatureMaps, size: int = INPUT_SIZE) -> Float[Array, "b {size} {size} c"]:
    """Bilinear as TensorFlow 1 does it inside the graph.

    Pixel i of the result lies at i · h / size of the image: corners, not centres, of the pixels are
    aligned, and nothing is smoothed before shrinking. FID depends on it: PyTorch and TensorFlow 2
    align centres, which shifts the content by up to a pixel and gives other metrics.
    """
    rows, columns = (jnp.asarray(_interpolation(n, size), image.dtype) for n in image.shape[1:3])
    image = jnp.einsum("ph,bhwc->bpwc", rows, image, precision="highest")
    return jnp.einsum("qw,bpwc->bpqc", columns, image, precision="highest")


def _interpolation(n: int, size: int) -> np.ndarray:
    """[size, n]: row i holds the weights by which n samples make sample i of size.

    Positions are rounded to float32, as TensorFlow's are.
    """
    position = np.arange(size, dtype=np.float32) * np.float32(n / size)
    position = np.minimum(position, n - 1)[:, None]
    return np.maximum(0.0, 1.0 - np.abs(position - np.arange(n)[None]))


def _halve(x: jax.Array) -> jax.Array:
    """[b, h, w, c] -> [b, (h - 1) // 2, (w - 1) // 2, c]: maxima of 3 × 3 pixels.

    It slices and chooses, for the reasons given at ``layers.max_pool``.
    """
    h, w = ((n - 1) // 2 * 2 for n in x.shape[1:3])
    x = _larger(_larger(x[:, 0:h:2], x[:, 1:h:2]), x[:, 2 : h + 1 : 2])
    return _larger(_larger(x[:, :, 0:w:2], x[:, :, 1:w:2]), x[:, :, 2 : w + 1 : 2])


def _larger(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(a >= b, a, b)


def _maximum(x: jax.Array) -> jax.Array:
    """[b, h, w, c] -> [b, h, w, c]: maxima of 3 × 3 pixels."""
    return nn.max_pool(x, (3, 3), padding="SAME")


def _average(x: jax.Array) -> jax.Array:
    """[b, h, w, c] -> [b, h, w, c]: means of those of the 3 × 3 pixels that exist."""
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def _check(names: tuple[str, ...], shape: tuple[int, ...]) -> None:
    unknown = [name for name in names if name not in LAYERS]
    if unknown or not names:
        found = ", ".join(map(repr, unknown)) or "none"
        raise ValueError(f"Inception needs names of its layers, got {found}: {', '.join(LAYERS)}")
    if min(shape[1:3]) < SMALLEST_INPUT:
        raise ValueError(
            f"Inception needs images of at least {SMALLEST_INPUT} x {SMALLEST_INPUT} pixels, "
            f"got {shape[1]} x {shape[2]}"
        )
