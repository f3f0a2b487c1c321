"""What a training sees of its photos."""

import numpy as np

from diffad_jax.commands import train
from diffad_jax.data import split


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
