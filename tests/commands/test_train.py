"""What a training sees of its photos."""

import types

import numpy as np
import pytest

from diffad_jax.commands import train
from diffad_jax.data import split
from diffad_jax.errors import ConfigError


def test_without_held_out_photos_a_stage_is_looked_at_on_its_own(tiny_config, photos):
    """validation_share = 0, or a single photo."""
    tiny_config.data.validation_share = 0.0
    drawn = split.draw(tiny_config, "tiles")
    assert not drawn.held_out
    for some in (drawn, split.Split(dict([*drawn.train.items()][:1]), {})):
        batch = next(train._batches(tiny_config, "tiles", some, "validation", 2))
        assert batch["image"].shape == (2, 16, 16, 3)
        seen = next(train._batches(tiny_config, "tiles", some, "train", 2))
        assert not np.array_equal(batch["augmented_image"], seen["augmented_image"])


def test_batches_that_devices_cannot_share_are_told_at_the_start(tiny_config, monkeypatch):
    """Of the last stage as well."""
    mesh = types.SimpleNamespace(size=4)
    monkeypatch.setattr(train.sharding, "make_mesh", lambda config: mesh)
    for stage in ("autoencoder", "diffusion"):
        tiny_config[stage].batch_size = 8
    with pytest.raises(ConfigError, match="config.segmentation.batch_size = 2 is not a multiple"):
        train._check_devices(tiny_config)
    tiny_config.segmentation.batch_size = 8
    train._check_devices(tiny_config)
