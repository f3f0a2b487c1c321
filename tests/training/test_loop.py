"""How long a stage trains: in steps, or in epochs until it has begun."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import mvtec
from diffad_jax.methods import train_state
from diffad_jax.methods.diffad import STAGES, autoencoder, latent_diffusion
from diffad_jax.training import loop
from diffad_jax.training.checkpoint import Checkpoints


def config(**changes) -> ml_collections.FrozenConfigDict:
    """The published config; ``changes`` are of its section ``autoencoder``."""
    mutable = mvtec.get_config("tiles")
    mutable.autoencoder.update(changes)
    return ml_collections.FrozenConfigDict(mutable)


def photos_must_not_be_counted():
    raise AssertionError("counted the photos although the length is settled")


def begin(directory, planned_steps):
    checkpoints = Checkpoints(directory / autoencoder.NAME)
    content = {"x": np.zeros(1)}
    checkpoints.save(
        2, content, content, {}, planned_steps=planned_steps, metrics={}, best_by="none"
    )
    checkpoints.wait()
    checkpoints.close()


@pytest.mark.parametrize(
    ("epochs", "photos", "batch_size", "steps"),
    # The published bottle: 7 steps an epoch of stage 3, 4,900 in all, and 28,000 of stage 2.
    [(3, 16, 8, 6), (3, 10, 8, 6), (700, 209, 32, 4900), (4000, 209, 32, 28000), (1, 1, 8, 1)],
)
def test_epochs_become_steps_rounded_up(epochs, photos, batch_size, steps, tmp_path):
    before = config(epochs=epochs, batch_size=batch_size)
    settled = loop.with_steps(autoencoder.STAGE, before, tmp_path, lambda: photos)
    assert settled.autoencoder.steps == steps
    assert before.autoencoder.steps == 0
    changed = ml_collections.ConfigDict(settled)
    with changed.unlocked():
        changed.autoencoder.steps = 0
    assert ml_collections.FrozenConfigDict(changed) == before  # all else is as it was


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_each_stage_has_its_own_length(stage, tmp_path):
    settled = loop.with_steps(stage, config(), tmp_path, lambda: 100)
    for other in STAGES:
        assert bool(other.settings(settled).steps) == (other is stage)


def test_explicit_steps_win(tmp_path):
    begin(tmp_path, planned_steps=40)
    explicit = config(steps=7, epochs=3)
    settled = loop.with_steps(autoencoder.STAGE, explicit, tmp_path, photos_must_not_be_counted)
    assert settled == explicit


def test_the_length_is_settled_when_the_stage_begins(tmp_path):
    begin(tmp_path, planned_steps=40)
    settled = loop.with_steps(autoencoder.STAGE, config(), tmp_path, photos_must_not_be_counted)
    assert settled.autoencoder.steps == 40
    other = loop.with_steps(latent_diffusion.STAGE, config(), tmp_path, lambda: 64)
    assert other.diffusion.steps == 4000 * 64 / 32  # that stage has not begun


def test_looking_for_the_length_leaves_no_folder_behind(tmp_path):
    loop.with_steps(autoencoder.STAGE, config(), tmp_path, lambda: 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_is_skipped_and_counted(bad):
    def step(state, frozen, batch):
        moved = state.replace(step=state.step + 1, params=state.params + batch)
        return moved, {"loss": batch, "gradient_norm": batch}

    state = train_state.create(jnp.zeros(()), (), jax.random.key(0))
    guarded = loop.skipping_nonfinite(step)
    state, metrics = guarded(state, {}, jnp.float32(2.0))
    assert (state.params, state.step, metrics["loss"], metrics["skipped"]) == (2.0, 1, 2.0, 0.0)
    state, metrics = guarded(state, {}, jnp.float32(bad))
    assert (state.params, state.step, metrics["loss"], metrics["skipped"]) == (2.0, 2, 0.0, 1.0)


def test_training_ends_where_the_loss_is_not_finite(tiny_config, tmp_path):
    tiny_config.autoencoder.learning_rate = 1e30
    data = loop.Data(
        batches=lambda start, batch_size: iter([examples(batch_size)] * 9),
        held_out=lambda: examples(2),
        photos="",
    )
    frozen_config = ml_collections.FrozenConfigDict(tiny_config)
    with pytest.raises(loop.TrainingError, match=r"autoencoder: .*loss.* not finite at step \d"):
        loop.train_stage(autoencoder.STAGE, frozen_config, {}, tmp_path, data, "autoencoder")


def examples(count):
    rng = np.random.default_rng(0)
    shape = (count, 16, 16)
    return {
        "image": rng.integers(0, 256, (*shape, 3)).astype(np.uint8),
        "augmented_image": rng.integers(0, 256, (*shape, 3)).astype(np.uint8),
        "anomaly_mask": rng.integers(0, 2, (*shape, 1)).astype(np.uint8),
    }
