"""A category's folder that another process writes to is left alone."""

import pytest

from diffad_jax.commands import train
from diffad_jax.runtime import lock


def test_a_second_training_is_refused_before_it_touches_the_checkpoints(tiny_config, tmp_path):
    half = tmp_path / "tiles" / "autoencoder" / "2.orbax-checkpoint-tmp-1"
    half.mkdir(parents=True)
    with (
        lock.hold(tmp_path / "tiles"),
        pytest.raises(lock.LockedError, match="is writing here"),
    ):
        train.train_and_evaluate(tiny_config, tmp_path, None)
    assert half.is_dir()
    assert sorted(p.name for p in (tmp_path / "tiles").iterdir()) == [".lock", "autoencoder"]
