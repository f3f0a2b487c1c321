"""Photos that are no squares, from training to tables and windows."""

import numpy as np
import pytest
from PIL import Image

from diffad_jax.commands import proportions
from diffad_jax.errors import ConfigError
from diffad_jax.methods import sizes
from diffad_jax.methods.registry import check_config
from diffad_jax.types import height_width


@pytest.fixture
def wide(tiny_config, tmp_path):
    """A config of photos of 30 × 20 pixels with a dark stripe, scratched ones to test on."""
    rng, root = np.random.default_rng(0), tmp_path / "photos"

    def save(name: str, scratch: bool) -> None:
        pixels = rng.integers(100, 140, (20, 30, 3)).astype(np.uint8)
        pixels[:, 4:8] = 30
        pixels[8:12, 12:26] = 250 if scratch else pixels[8:12, 12:26]
        path = root / "tiles" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    for i in range(8):
        save(f"train/good/{i}.png", False)
        save(f"test/good/{i}.png", False)
        save(f"test/scratch/{i}.png", True)
        mask = np.zeros((20, 30), np.uint8)
        mask[8:12, 12:26] = 255
        path = root / "tiles" / "ground_truth" / "scratch" / f"{i}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    tiny_config.data.root = str(root)
    tiny_config.data.proportions = "photos"
    tiny_config.image_size = 20
    for stage in ("autoencoder", "diffusion", "segmentation"):
        tiny_config[stage].steps = 2
    return tiny_config


def test_photos_of_several_proportions_stay_squares(wide, tmp_path, capsys):
    for i in range(8):
        Image.new("RGB", (20, 50)).save(tmp_path / f"photos/tiles/train/good/{i}0.png")
    proportions.settle(wide, None)
    assert wide.image_size == 20
    assert "their proportions differ" in capsys.readouterr().err


def test_sides_are_what_the_networks_take(wide):
    wide.autoencoder.patch_size, wide.diffusion.multipliers = 16, (1, 2)
    check_config(wide)
    assert sizes.multiples_that_fit(wide, (200.0, 80.0)) == (192, 96)
    wide.image_size = (200, 80)
    with pytest.raises(ConfigError, match=r"image_size = \(200, 80\) .*: take \(192, 96\)"):
        sizes.check_sizes(wide)


@pytest.mark.parametrize("size", [(16,), (16, 24, 8), (0, 16), "16", (16, 8.5)])
def test_impossible_sizes_are_named(tiny_config, size):
    tiny_config.image_size = size
    with pytest.raises(ConfigError, match=r"config\.image_size = .*: must be"):
        check_config(tiny_config)


def test_a_number_is_the_side_of_a_square():
    assert height_width(8) == (8, 8)
    assert height_width([8, 4]) == (8, 4)
