"""DINOv2 (Oquab et al., 2023; registers: Darcet et al., ICLR 2024) as a feature extractor.

Vision transformers over patches of 14 × 14 pixels, trained on photos of 518 × 518. For other sizes
position embeddings are interpolated as in the published code. The features mean something only with
trained weights (``convert.backbone``).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from diffad_jax.models.layers import Dtype, error_function, imagenet_standardised
from diffad_jax.types import Array, Images

PATCH = 14  # pixels a side
_DEPTH = 12
LAYERS = tuple(f"block{i}" for i in range(1, _DEPTH + 1))
_EPSILON = 1e-6  # of its layer normalisation
_OFFSET = 0.1  # networks without registers add it to the size to which positions are interpolated


class Dinov2(nn.Module):
    """The feature maps of an image after the named blocks; deeper blocks cost nothing.

    Attributes:
      names: of the blocks, from ``LAYERS``.
      width: channels.
      heads: of the attention.
      registers: tokens beside the class's that belong to no patch; where there are some, positions
        are interpolated with antialiasing.
      grid: patches a side that the positions were trained for.
      dtype: compute dtype; parameters and features are float32.
    """

    names: tuple[str, ...]
    width: int
    heads: int
    registers: int = 0
    grid: int = 37
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Images) -> dict[str, Float32[Array, "b h//14 w//14 {self.width}"]]:
        """The features of each block in ``names``.

        A block's result passes the network's last normalisation, as in the published code for the
        features of several blocks.

        Args:
          image: h and w multiples of 14.

        Raises:
          ValueError: a name is unknown, or there is none; h or w is no multiple of 14.
        """
        unknown = [name for name in self.names if name not in LAYERS]
        if unknown or not self.names:
            found = ", ".join(map(repr, unknown)) or "none"
            raise ValueError(
                f"a DINOv2 needs names of its blocks, got {found}: {', '.join(LAYERS)}"
            )
        batch, height, width, _ = image.shape
        if height % PATCH or width % PATCH:
            raise ValueError(
                f"a DINOv2 takes photos whose sides are multiples of {PATCH}, got "
                f"{height} x {width} pixels"
            )
        rows, columns = height // PATCH, width // PATCH
        x = self._tokens(imagenet_standardised(image), rows, columns)
        norm = normalisation("norm", self.dtype)
        features, others = {}, 1 + self.registers
        for name in LAYERS[: max(map(LAYERS.index, self.names)) + 1]:
            x = Block(self.width, self.heads, self.dtype, name=name)(x)
            if name in self.names:
                patches = norm(x[:, others:]).astype(jnp.float32)
                features[name] = patches.reshape(batch, rows, columns, self.width)
        return features

    def _tokens(self, image: jax.Array, rows: int, columns: int) -> jax.Array:
        """Tokens [b, 1 + registers + rows * columns, width]: the class, registers, patches."""
        small = nn.initializers.normal(0.02)
        token = self.param("cls_token", small, (1, 1, self.width))
        positions = self.param("pos_embed", small, (1, 1 + self.grid**2, self.width))
        embed = nn.Conv(
            self.width, (PATCH, PATCH), PATCH, "VALID", dtype=self.dtype, name="patch_embed"
        )
        patches = embed(image)
        patches += self._positions(positions[0, 1:], rows, columns).astype(self.dtype)
        batch = patches.shape[0]
        parts = [token + positions[:, :1]]
        if self.registers:
            parts.append(self.param("register_tokens", small, (1, self.registers, self.width)))
        parts = [jnp.broadcast_to(x, (batch, *x.shape[1:])).astype(self.dtype) for x in parts]
        return jnp.concatenate([*parts, patches.reshape(batch, rows * columns, self.width)], axis=1)

    def _positions(self, embeddings: jax.Array, rows: int, columns: int) -> jax.Array:
        """[grid², width] -> [1, rows, columns, width]."""
        square = embeddings.reshape(self.grid, self.grid, self.width)
        if (rows, columns) != (self.grid, self.grid):
            for axis, size in enumerate((rows, columns)):
                if self.registers:
                    matrix = bicubic_antialiased(self.grid, size)
                else:
                    matrix = bicubic(self.grid, size, (size + _OFFSET) / self.grid)
                resized = jnp.tensordot(matrix, square, (1, axis), precision="highest")
                square = jnp.moveaxis(resized, 0, axis)
        return square[None]


class Block(nn.Module):
    """Attention, then two layers with a GELU, each normalised before and scaled after."""

    width: int
    heads: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b n {self.width}"]) -> Float[Array, "b n {self.width}"]:
        x += self._scaled("ls1", self._attention(self._norm("norm1", x)))
        h = self._dense("fc1", self._norm("norm2", x), 4 * self.width)
        h = h.astype(jnp.float32)
        h = 0.5 * h * (1.0 + error_function(h * 0.5**0.5))  # GELU
        return x + self._scaled("ls2", self._dense("fc2", h, self.width))

    def _attention(self, x: jax.Array) -> jax.Array:
        batch, count, _ = x.shape
        size = self.width // self.heads
        parts = jnp.split(self._dense("qkv", x, 3 * self.width), 3, axis=-1)
        query, key, value = (part.reshape(batch, count, self.heads, size) for part in parts)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query * size**-0.5, key)
        weights = nn.softmax(scores.astype(jnp.float32)).astype(self.dtype)
        found = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return self._dense("proj", found.reshape(batch, count, self.width), self.width)

    def _norm(self, name: str, x: jax.Array) -> jax.Array:
        return normalisation(name, self.dtype)(x)

    def _dense(self, name: str, x: jax.Array, features: int) -> jax.Array:
        return nn.Dense(features, dtype=self.dtype, name=name)(x)

    def _scaled(self, name: str, x: jax.Array) -> jax.Array:
        gamma = self.param(name, nn.initializers.ones, (self.width,))
        return x * gamma.astype(self.dtype)[None, None]


def normalisation(name: str, dtype: Dtype) -> nn.LayerNorm:
    return nn.LayerNorm(_EPSILON, dtype=dtype, use_fast_variance=False, name=name)


def bicubic(old: int, new: int, scale: float) -> Float32[np.ndarray, "{new} {old}"]:
    """Each new value from the four around it; the border's values continue.

    Args:
      old, new: the numbers of values.
      scale: the factor by which the distance of two values shrinks, near new / old.
    """
    places = (np.arange(new) + 0.5) / scale - 0.5
    matrix = np.zeros((new, old))
    for step in range(-1, 3):
        sources = np.floor(places).astype(int) + step
        np.add.at(
            matrix,
            (np.arange(new), np.clip(sources, 0, old - 1)),
            _cubic(places - sources, -0.75),
        )
    return matrix.astype(np.float32)


def bicubic_antialiased(old: int, new: int) -> Float32[np.ndarray, "{new} {old}"]:
    """Like ``bicubic``, with a wider kernel when the size shrinks.

    The kernel ends at the border, and its weights are normalised.
    """
    stretch = max(old / new, 1.0)
    places = (np.arange(new) + 0.5) * old / new
    distances = (np.arange(old)[None] + 0.5 - places[:, None]) / stretch
    matrix = _cubic(distances, -0.5)
    return (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys's kernel (1981), 0 from two on."""
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((x - 5.0) * x + 8.0) * a * x - 4.0 * a
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


def dinov2_vits14(names: tuple[str, ...], dtype: Dtype = jnp.float32) -> Dinov2:
    return Dinov2(names, 384, 6, dtype=dtype)


def dinov2_vits14_reg(names: tuple[str, ...], dtype: Dtype = jnp.float32) -> Dinov2:
    return Dinov2(names, 384, 6, registers=4, dtype=dtype)


def dinov2_vitb14(names: tuple[str, ...], dtype: Dtype = jnp.float32) -> Dinov2:
    return Dinov2(names, 768, 12, dtype=dtype)


def dinov2_vitb14_reg(names: tuple[str, ...], dtype: Dtype = jnp.float32) -> Dinov2:
    return Dinov2(names, 768, 12, registers=4, dtype=dtype)
