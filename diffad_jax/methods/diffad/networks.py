"""The networks that a config describes. Building a module costs nothing; it holds no weights."""

import jax
import jax.numpy as jnp
import ml_collections

from diffad_jax.config.fields import value_of
from diffad_jax.errors import UserError
from diffad_jax.methods import backbone
from diffad_jax.methods.computing import computing
from diffad_jax.models import layers
from diffad_jax.models.autoencoder import Autoencoder
from diffad_jax.models.discriminator import Discriminator
from diffad_jax.models.inception import InceptionDistance
from diffad_jax.models.lpips import Lpips
from diffad_jax.models.segmenter import Segmenter
from diffad_jax.models.unet import UNet
from diffad_jax.types import height_width

Config = ml_collections.ConfigDict | ml_collections.FrozenConfigDict
# By the factor by which a map is smaller than the photo: its layer, and its projected channels.
_FEATURE_MAPS = {2: ("stage1", 16), 4: ("stage2", 24), 8: ("stage3", 32), 16: ("stage5", 32)}


def autoencoder(config: Config) -> Autoencoder:
    c = config.autoencoder
    return Autoencoder(
        channels=c.channels,
        multipliers=tuple(c.multipliers),
        num_res_blocks=c.num_res_blocks,
        latent_channels=c.latent_channels,
        patch_size=c.patch_size,
        dropout=c.dropout,
        linear_skip=c.linear_skip,
        signed=c.signed,
        **computing(config),
    )


def denoiser(config: Config) -> UNet:
    c = config.diffusion
    return UNet(
        channels=c.channels,
        multipliers=tuple(c.multipliers),
        num_res_blocks=c.num_res_blocks,
        attention_downsampling=tuple(c.attention_downsampling),
        head_channels=c.head_channels,
        out_channels=config.autoencoder.latent_channels,
        linear_skip=c.linear_skip,
        **computing(config),
    )


def discriminator(config: Config) -> Discriminator:
    c = config.autoencoder
    return Discriminator(
        c.discriminator_channels, c.discriminator_layers, computing(config)["dtype"]
    )


def perceptual(config: Config) -> Lpips | InceptionDistance:
    """The network of stage 1's perceptual term: (image, reference) -> [b]."""
    network = Lpips if config.autoencoder.perceptual == "lpips" else InceptionDistance
    return network(dtype=computing(config)["dtype"])


def segmenter(config: Config) -> Segmenter:
    c = config.segmentation
    return Segmenter(
        projections=tuple(channels for _, channels in feature_maps(config)),
        channels=c.channels,
        multipliers=tuple(c.multipliers),
        patch_size=c.patch_size,
        **computing(config),
    )


def feature_maps(config: Config) -> tuple[tuple[str, int], ...]:
    """(layer, projected channels) of the pretrained network's maps that the segmenter sees.

    These maps have the size of one of the segmenter's levels.
    """
    c = config.segmentation
    if c.features == "none":
        return ()
    sizes = [layers.reduction(c.patch_size, n + 1) for n in range(len(c.multipliers))]
    return tuple(_FEATURE_MAPS[size] for size in sizes if size in _FEATURE_MAPS)


def memory_layers(config: Config) -> tuple[str, ...]:
    """The layers whose patches are compared with normal ones, the largest map first.

    They are the first and the last of the ``feature_maps`` that are at least four times smaller
    than the photo, as in ``configs/patchcore.py``; there may be none.
    """
    coarse = [name for name, _ in feature_maps(config) if name != _FEATURE_MAPS[2][0]]
    return tuple(dict.fromkeys(coarse[:1] + coarse[-1:]))


def feature_network(config: Config) -> backbone.Backbone:
    """The trained network, up to the deepest layer that the segmenter sees."""
    names = tuple(layer for layer, _ in feature_maps(config))
    return backbone.build(config.segmentation.features, names, config)


def feature_shapes(config: Config) -> tuple[dict, dict]:
    """The shapes of the pretrained network's maps of a photo, by layer, and of its parameters."""
    photo = jax.ShapeDtypeStruct((1, *seen_size(config), 3), jnp.float32)
    init = feature_network(config).init_with_output
    maps, variables = jax.eval_shape(init, jax.random.key(0), photo)
    return maps, variables["params"]


def no_features(config: Config) -> list[jax.Array]:
    """Zeros in place of the feature maps that the segmenter sees of one photo."""
    if not feature_maps(config):
        return []
    maps, times = feature_shapes(config)[0], 2 if config.segmentation.compare == "both" else 1
    shapes = (maps[name].shape for name, _ in feature_maps(config))
    return [jnp.zeros((*shape[:-1], times * shape[-1])) for shape in shapes]


def seen_size(config: Config) -> tuple[int, int]:
    """(height, width) in pixels of what E, ε_θ and the segmenter see: of photos, or of windows."""
    height, width = height_width(config.image_size)
    window = config.autoencoder.window
    return (min(height, window), min(width, window)) if window else (height, width)


def latent_shape(config: Config) -> tuple[int, int, int]:
    """(height, width, channels) of the latent of one photo."""
    c = config.autoencoder
    reduction = layers.reduction(c.patch_size, len(c.multipliers))
    height, width = seen_size(config)
    if height % reduction or width % reduction:
        name = "autoencoder.window" if config.autoencoder.window else "image_size"
        raise UserError(
            f"config.{name} = {value_of(config, name)} must be multiples of {reduction}, "
            "by which config.autoencoder.patch_size and .multipliers shrink a photo"
        )
    return height // reduction, width // reduction, c.latent_channels
