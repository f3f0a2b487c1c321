"""Sizes of photos that a network cannot take are told at the start, with those that it can."""

import pytest

from diffad_jax.config import recipes
from diffad_jax.errors import ConfigError, UserError
from diffad_jax.methods.sizes import check_sizes


def config_of(name, size):
    """With few channels, which divide nothing."""
    config = recipes.load(name)
    config.image_size = size
    for field, value in (("autoencoder.channels", 8), ("diffusion.channels", 8),
                         ("diffusion.head_channels", 8), ("segmentation.channels", 4),
                         ("draem.reconstructor_channels", 4), ("draem.segmenter_channels", 4),
                         ("riad.channels", 4)):  # fmt: skip
        section, _, key = field.partition(".")
        if section in config:
            config[section][key] = value
    return config


@pytest.mark.parametrize(
    ("name", "size", "near"),
    [
        ("folder", 50, "32 or 64"),
        ("folder", 112, "96 or 128"),
        ("folder", 400, "384 or 416"),
        ("mvtec_fast", 160, "128 or 192"),
        ("draem_small", 50, "32 or 64"),
        ("riad_small", 144, "128 or 160"),
        ("folder", 9, "32"),
    ],
)
def test_the_nearest_that_work_are_named(name, size, near):
    with pytest.raises(ConfigError) as error:
        check_sizes(config_of(name, size))
    message = str(error.value)
    assert message.startswith(f"config.image_size = {size} does not suit the network of stage ")
    assert message.endswith(f": take {near}") and "\n" not in message
    for other in near.split(" or "):
        check_sizes(config_of(name, int(other)))


def test_networks_that_fit_no_size_are_told_apart():
    config = config_of("folder", 128)
    config.diffusion.head_channels = 7
    with pytest.raises(UserError, match="set config.diffusion.head_channels to a divisor"):
        check_sizes(config)


def test_photos_too_small_for_a_backbone(tmp_path):
    config = recipes.load("padim")
    config.image_size, config.backbone.weights = 64, "weights.safetensors"
    config.backbone.name, config.backbone.layers = "inception_v3", ("mixed_2",)
    with pytest.raises(ConfigError, match="network of stage padim: take 80"):
        check_sizes(config)


@pytest.mark.parametrize(("size", "near"), [(256, "252 or 266"), ((256, 320), "(252, 322)")])
def test_patches_of_a_vision_transformer(size, near):
    config = recipes.load("patchcore")
    config.image_size, config.backbone.weights = size, "weights.pth"
    config.backbone.name, config.backbone.layers = "dinov2_vits14", ("block1",)
    with pytest.raises(ConfigError) as error:
        check_sizes(config)
    assert str(error.value).endswith(f"the network of stage patchcore: take {near}")
    config.backbone.layers = ("layer1",)
    with pytest.raises(ConfigError, match="got 'layer1': block1"):
        check_sizes(config)
