"""The KL autoencoder of latent diffusion (Rombach et al., CVPR 2022): E, D and the two 1×1 convs.

Every module returns float32, whatever its compute dtype.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32

from diffad_jax.models import layers
from diffad_jax.models.layers import Dtype
from diffad_jax.types import Array, FeatureMaps, Images

EPSILON = 1e-6  # of every GroupNorm here
DOWNSAMPLING_PADDING = ((0, 1), (0, 1))  # pixels are added below and at the right only
_INITIAL_LOGVAR = -8.0  # of a posterior that begins as principal components


class ResidualBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), with a 1×1 conv on x where widths differ."""

    features: int
    dropout: float
    dtype: Dtype

    @nn.compact
    def __call__(
        self, x: FeatureMaps, deterministic: bool
    ) -> Float[Array, "b h w {self.features}"]:
        h = nn.swish(layers.GroupNorm(EPSILON, self.dtype, name="norm_1")(x))
        h = layers.conv(h, self.features, name="conv_1", dtype=self.dtype)
        h = nn.swish(layers.GroupNorm(EPSILON, self.dtype, name="norm_2")(h))
        h = nn.Dropout(self.dropout)(h, deterministic=deterministic)
        h = layers.conv(h, self.features, name="conv_2", dtype=self.dtype)
        if x.shape[-1] != self.features:
            x = layers.conv(x, self.features, name="shortcut", dtype=self.dtype, kernel=1)
        return x + h


class AttentionBlock(nn.Module):
    """x + single-head self-attention over all pixels."""

    dtype: Dtype

    @nn.compact
    def __call__(self, x: FeatureMaps) -> FeatureMaps:
        channels = x.shape[-1]
        h = layers.GroupNorm(EPSILON, self.dtype, name="norm")(x)
        query, key, value = (
            layers.conv(h, channels, name=name, dtype=self.dtype, kernel=1)[:, :, :, None]
            for name in ("query", "key", "value")
        )
        h = layers.attend(query, key, value)
        return x + layers.conv(h, channels, name="out", dtype=self.dtype, kernel=1)


class _Half(nn.Module):
    """The part that encoder and decoder share: their fields and the middle.

    Attributes:
      channels: width of the first level.
      multipliers: width of each level in units of ``channels``; all but the last halve the map.
      num_res_blocks: residual blocks a level of the encoder; the decoder has one more.
      latent_channels: of the latent.
      patch_size: p > 1 makes p × p patches into channels before the first conv and undoes it after
        the last one: the same pixels at a p²-th of the cost. Not in the published network.
      dropout: probability, inside every residual block.
      linear_skip: adds a linear map from patches of f × f pixels to the latent, and one back; the
        blocks then start at zero and add the part that is not linear. See
        ``begin_as_principal_components``. Not in the published network.
      dtype: compute dtype; parameters are float32.
      remat: recompute blocks in the backward pass instead of keeping their activations.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4
    patch_size: int = 1
    dropout: float = 0.0
    linear_skip: bool = False
    dtype: Dtype = jnp.float32
    remat: bool = False

    def _residual(self, features: int, name: str) -> nn.Module:
        block = nn.remat(ResidualBlock, static_argnums=(2,)) if self.remat else ResidualBlock
        return block(features, self.dropout, self.dtype, name=name)

    def _middle(self, h: jax.Array, deterministic: bool) -> jax.Array:
        attention = nn.remat(AttentionBlock) if self.remat else AttentionBlock
        h = self._residual(h.shape[-1], "middle_res_0")(h, deterministic)
        h = attention(self.dtype, name="middle_attention")(h)
        return self._residual(h.shape[-1], "middle_res_1")(h, deterministic)

    def _out(self, h: jax.Array, features: int) -> jax.Array:
        h = nn.swish(layers.GroupNorm(EPSILON, self.dtype, name="norm_out")(h))
        conv = layers.zero_conv if self.linear_skip else layers.conv
        return conv(h, features, name="conv_out", dtype=self.dtype).astype(jnp.float32)


class Encoder(_Half):
    """Image to the moments of its latent, before the 1×1 quant conv; fields: see ``_Half``."""

    @nn.compact
    def __call__(
        self, image: Images, *, deterministic: bool = True
    ) -> Float32[Array, "b _ _ {2*self.latent_channels}"]:
        """Of h/f × w/f positions, f = patch_size · 2^(levels - 1)."""
        h = layers.space_to_depth(image, self.patch_size)
        h = layers.conv(h, self.channels, name="conv_in", dtype=self.dtype)
        for level, multiplier in enumerate(self.multipliers):
            features = self.channels * multiplier
            for i in range(self.num_res_blocks):
                h = self._residual(features, f"down_{level}_res_{i}")(h, deterministic)
            if level < len(self.multipliers) - 1:
                h = layers.conv(
                    h,
                    features,
                    name=f"down_{level}_downsample",
                    dtype=self.dtype,
                    strides=2,
                    padding=DOWNSAMPLING_PADDING,
                )
        h = self._middle(h, deterministic)
        moments = self._out(h, 2 * self.latent_channels)
        if self.linear_skip:
            patches = layers.space_to_depth(image, _factor(self))
            moments += layers.dense(patches, moments.shape[-1], name="skip", dtype=jnp.float32)
        return moments


class Decoder(_Half):
    """Latent, after the 1×1 post-quant conv, to an image; fields: see ``_Half``."""

    @nn.compact
    def __call__(self, z: FeatureMaps, *, deterministic: bool = True) -> Float32[Array, "b _ _ 3"]:
        """Not clipped."""
        h = layers.conv(z, self.channels * self.multipliers[-1], name="conv_in", dtype=self.dtype)
        h = self._middle(h, deterministic)
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            features = self.channels * multiplier
            for i in range(self.num_res_blocks + 1):
                h = self._residual(features, f"up_{level}_res_{i}")(h, deterministic)
            if level > 0:
                h = layers.upsample_nearest(h)
                h = layers.conv(h, features, name=f"up_{level}_upsample", dtype=self.dtype)
        image = layers.pixel_shuffle(self._out(h, 3 * self.patch_size**2), self.patch_size)
        if self.linear_skip:
            patches = layers.dense(z, 3 * _factor(self) ** 2, name="skip", dtype=jnp.float32)
            image += layers.pixel_shuffle(patches, _factor(self))
        return image


class Autoencoder(nn.Module):
    """E and D with the 1×1 convs on either side of the latent.

    Attributes:
      signed: maps [0, 1] to [-1, 1] before E and back after D, for weights trained so.
      Others: see ``_Half``.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4
    patch_size: int = 1
    dropout: float = 0.0
    linear_skip: bool = False
    dtype: Dtype = jnp.float32
    remat: bool = False
    signed: bool = False

    def setup(self):
        fields = (
            self.channels,
            self.multipliers,
            self.num_res_blocks,
            self.latent_channels,
            self.patch_size,
            self.dropout,
            self.linear_skip,
            self.dtype,
            self.remat,
        )
        self.encoder = Encoder(*fields)
        self.decoder = Decoder(*fields)
        self.quant_conv = _pointwise(2 * self.latent_channels, 2 * self.latent_channels, self.dtype)
        self.post_quant_conv = _pointwise(self.latent_channels, self.latent_channels, self.dtype)

    def encode(
        self, image: Images, *, deterministic: bool = True
    ) -> tuple[Float32[Array, "b _ _ {self.latent_channels}"], Float32[Array, "b _ _ _"]]:
        """The posterior q(z|x) = N(mean, exp(logvar)); its mode is the mean.

        Args:
          image: h and w multiples of f = patch_size · 2^(levels - 1).
          deterministic: no dropout; otherwise ``rngs={"dropout": key}`` is needed.

        Returns:
          mean and logvar, each of h/f × w/f positions, logvar clipped to [-30, 20].
        """
        if self.signed:
            image = 2.0 * image - 1.0
        moments = self.quant_conv(self.encoder(image, deterministic=deterministic))
        mean, logvar = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
        return mean, jnp.clip(logvar, -30.0, 20.0)

    def decode(self, z: FeatureMaps, *, deterministic: bool = True) -> Float32[Array, "b _ _ 3"]:
        """The image, not clipped."""
        image = self.decoder(self.post_quant_conv(z), deterministic=deterministic)
        return 0.5 * (image + 1.0) if self.signed else image

    def __call__(self, image: Images) -> Images:
        """The reconstruction from the mode; touches every weight."""
        mean, _ = self.encode(image)
        return self.decode(mean)


def begin_as_principal_components(params: dict, images: Images, model: Autoencoder) -> dict:
    """Parameters with which D(E(x)) keeps just the first principal components of x's patches.

    A component's latent is its coordinate divided by the root of its standard deviation. That is
    half-way to equal variances, so the denoiser's noise does not hide the fine components.

    Args:
      params: of ``model``, which has ``linear_skip``.
      images: some training images; h and w multiples of f.
      model: with at most 3 f² latent channels.

    Returns:
      ``params`` with both skips and both 1×1 convs set; the posterior's variance is near zero.
    """
    count = model.latent_channels
    images = 2.0 * images - 1.0 if model.signed else images
    patches = layers.space_to_depth(images, _factor(model))
    patches = patches.reshape(-1, patches.shape[-1])
    centre = jnp.mean(patches, axis=0)
    deviation = patches - centre[None]
    covariance = jnp.einsum("ni,nj->ij", deviation, deviation, precision="highest") / len(patches)
    variances, axes = jnp.linalg.eigh(covariance)  # ascending
    variances, axes = variances[::-1][:count], axes[:, ::-1][:, :count]
    # An axis may point either way. It points to its largest value, so that all devices agree.
    axes *= jnp.sign(jnp.take_along_axis(axes, jnp.argmax(jnp.abs(axes), axis=0)[None], axis=0))
    spread = jnp.maximum(variances, 1e-6)[None] ** 0.25
    to_latent = axes / spread
    encode = {
        "kernel": jnp.concatenate([to_latent, jnp.zeros_like(to_latent)], axis=1),
        "bias": jnp.concatenate([-centre @ to_latent, jnp.full(count, _INITIAL_LOGVAR)]),
    }
    decode = {"kernel": (axes * spread).T, "bias": centre}
    identity = {
        name: {"kernel": jnp.eye(size)[None, None], "bias": jnp.zeros(size)}
        for name, size in (("quant_conv", 2 * count), ("post_quant_conv", count))
    }
    encoder, decoder = params["encoder"] | {"skip": encode}, params["decoder"] | {"skip": decode}
    return params | {"encoder": encoder, "decoder": decoder} | identity


def _factor(module: _Half | Autoencoder) -> int:
    """f, the factor by which the latent's sides are smaller than the image's."""
    return layers.reduction(module.patch_size, len(module.multipliers))


def _pointwise(in_features: int, features: int, dtype: Dtype) -> nn.Conv:
    init = layers.torch_uniform(in_features)
    return nn.Conv(features, (1, 1), dtype=dtype, kernel_init=init, bias_init=init)
