"""How long a stage trains: in steps, or in epochs until it has begun."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import mvtec
from diffad_jax.methods import train_state, validation
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.diffad import STAGES, autoencoder
from diffad_jax.training import loop
from diffad_jax.training.checkpoint import EARLIER, Checkpoints
from diffad_jax.training.data import Data
from diffad_jax.training.fingerprint import BEGUN_FROM
from diffad_jax.types import Validation


def config(**changes) -> ml_collections.FrozenConfigDict:
    """The published config; ``changes`` are of its section ``autoencoder``."""
    mutable = mvtec.get_config("tiles")
    mutable.autoencoder.update(changes)
    return ml_collections.FrozenConfigDict(mutable)


@pytest.mark.parametrize(
    ("epochs", "photos", "batch_size", "steps"),
    # The published bottle: 7 steps an epoch of stage 3, 4,900 in all, and 28,000 of stage 2.
    [(3, 16, 8, 6), (3, 10, 8, 6), (700, 209, 32, 4900), (4000, 209, 32, 28000), (1, 1, 8, 1)],
)
def test_epochs_become_steps_rounded_up(epochs, photos, batch_size, steps):
    before = config(epochs=epochs, batch_size=batch_size)
    settled = loop.with_steps(autoencoder.STAGE, before, 0, photos)
    assert settled.autoencoder.steps == steps
    assert before.autoencoder.steps == 0
    changed = ml_collections.ConfigDict(settled)
    with changed.unlocked():
        changed.autoencoder.steps = 0
    assert ml_collections.FrozenConfigDict(changed) == before  # all else is as it was


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_each_stage_has_its_own_length(stage):
    settled = loop.with_steps(stage, config(), 0, 100)
    for other in STAGES:
        assert bool(other.settings(settled).steps) == (other is stage)


def test_explicit_steps_win():
    explicit = config(steps=7, epochs=3)
    assert loop.with_steps(autoencoder.STAGE, explicit, 40, 64) == explicit


class Counter:
    """A stage that adds 1 at each step; what it calls is counted."""

    def __init__(self):
        self.loaded = 0
        self.stage = Stage(
            name="counter",
            sections=autoencoder.STAGE.sections,
            section="autoencoder",
            init_state=lambda config, key, earlier, batch: train_state.create(
                {"x": jnp.zeros(2)}, (), key
            ),
            train_step=self.step,
            weights=lambda state: state.params,
            validate=lambda weights, batch, config: Validation(
                {"quality": weights["counter"]["x"].sum()}, {}
            ),
            best_by="quality",
        )

    @staticmethod
    def step(state, earlier_weights, batch, *, config):
        params = jax.tree.map(lambda x: x + 1.0, state.params)
        return state.replace(step=state.step + 1, params=params), {"loss": params["x"].sum()}

    def train(self, directory, num_photos, **changes):
        data = Data(
            batches=lambda stage, start, batch_size: iter([examples(batch_size)] * 99),
            held_out=lambda: examples(2),
            normal_photos=(),
            num_photos=num_photos,
            num_train=num_photos,
            photos="some",
            pretrained=self.pretrained,
        )
        settings = config(epochs=1, batch_size=2, **changes)
        return loop.train_stage(self.stage, settings, {}, directory, data, "counter")

    def pretrained(self, stage):
        self.loaded += 1
        return {}


def test_the_length_is_settled_when_the_stage_begins(tmp_path):
    counter = Counter()
    first = counter.train(tmp_path, 8)
    assert first.trained and first.weights["x"].tolist() == [4.0, 4.0]
    assert first.metrics == {"quality": 8.0}
    again = counter.train(tmp_path, 30)  # more photos than it began with
    assert not again.trained and again.weights["x"].tolist() == [4.0, 4.0]
    assert counter.loaded == 1  # a finished stage needs nothing that it has learned with
    assert counter.train(tmp_path, 30, steps=6).weights["x"].tolist() == [6.0, 6.0]


@pytest.mark.parametrize("decay", ["steps", "cosine"])
def test_categories_of_other_lengths_share_what_is_compiled(tmp_path, compilations, decay):
    """And each has the learning rates of its own length."""

    def step(state, earlier_weights, batch, *, config):
        c = config.autoencoder
        rate = train_state.learning_rate(c, c.steps)(state.step)
        params = {"x": state.params["x"] + rate}
        return state.replace(step=state.step + 1, params=params), {"loss": rate}

    counter, found = Counter(), {}
    counter.stage = dataclasses.replace(counter.stage, train_step=step)
    settings = {"decay": decay, "learning_rate": 1.0, "warmup_steps": 0}
    for photos in (20, 40):  # an epoch of 10 steps, and of 20
        before = len(compilations)
        outcome = counter.train(tmp_path / str(photos), photos, **settings)
        found[photos] = outcome.weights["x"][0], len(compilations) - before
    (short, compiled), (long, again) = found.values()
    assert compiled and not again, compilations
    drops = {"steps": 8 + 0.2 + 0.04, "cosine": 0.01 * 10 + 0.99 * 5.5}[decay]
    assert short == pytest.approx(drops)
    assert long == pytest.approx({"steps": 2 * drops, "cosine": 0.01 * 20 + 0.99 * 10.5}[decay])


def test_a_stage_begins_from_earlier_weights_and_says_so(tmp_path):
    counter = Counter()
    counter.train(tmp_path, 8)
    (tmp_path / EARLIER).mkdir()
    (tmp_path / "counter").rename(tmp_path / EARLIER / "counter")
    outcome = counter.train(tmp_path, 6)  # 3 steps, from 4 on
    assert outcome.trained and outcome.weights["x"].tolist() == [7.0, 7.0]
    shutil.rmtree(tmp_path / EARLIER)
    assert counter.train(tmp_path, 6).weights["x"].tolist() == [7.0, 7.0]
    assert counter.train(tmp_path, 6, steps=5).weights["x"].tolist() == [9.0, 9.0]
    checkpoints = Checkpoints(tmp_path / "counter")
    for step in (3, 5):
        assert checkpoints.fingerprint(step)[BEGUN_FROM].endswith(", step 4, some")
    checkpoints.close()


def test_a_stage_opens_its_checkpoints_once(tmp_path, monkeypatch):
    opened = []

    def counted(*args, **kwargs):
        opened.append(args)
        return Checkpoints(*args, **kwargs)

    monkeypatch.setattr(loop, "Checkpoints", counted)
    Counter().train(tmp_path, 8)
    assert len(opened) == 1


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


def test_a_held_out_metric_that_is_undefined_is_null_and_never_the_best(tmp_path):
    """Such as pixel AP where no held-out example is anomalous."""
    counter = Counter()
    nowhere = jnp.zeros((1, 4, 4))

    def validate(weights, batch, config):
        value = validation.average_precision(nowhere, nowhere)
        return Validation({"quality": value}, {})

    counter.stage = dataclasses.replace(counter.stage, validate=validate)
    outcome = counter.train(tmp_path, 8)
    assert outcome.metrics == {"quality": None}
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [line["held_out_quality"] for line in lines if "held_out_quality" in line] == [None]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    checkpoints = Checkpoints(tmp_path / "counter")
    assert checkpoints.best_step() is None
    checkpoints.close()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_average_counts_updates_not_skipped_batches(accumulation):
    """With skipped batches in between it is what it is without them."""

    class Settings:
        steps, learning_rate, warmup_steps, decay = 8, 0.1, 0, "constant"

    Settings.accumulation = accumulation
    optimizer = train_state.optimizer(Settings, 1.0)

    def step(state, frozen, gradient):
        state = train_state.apply_gradients(state, gradient, optimizer)
        average = train_state.ema(state, 0.999)
        return state.replace(ema_params=average), {"loss": gradient}

    guarded = jax.jit(loop.skipping_nonfinite(step))

    def average_after(*gradients):
        x = jnp.float32(1.0)
        state = train_state.create(x, optimizer.init(x), jax.random.key(0), ema_params=x)
        averages = [1.0]
        for gradient in gradients:
            state, _ = guarded(state, {}, jnp.float32(gradient))
            averages.append(float(state.ema_params))
        return averages

    plain = average_after(1.0, -2.0, 3.0, 1.0)
    nan = float("nan")
    assert average_after(nan, 1.0, nan, nan, -2.0, 3.0, nan, 1.0, nan)[-1] == plain[-1]
    assert len(set(plain)) == 1 + 4 // accumulation  # it moves with each update alone


def test_training_ends_where_the_loss_is_not_finite(tiny_config, tmp_path):
    tiny_config.autoencoder.learning_rate = 1e30
    data = Data(
        batches=lambda stage, start, batch_size: iter([examples(batch_size)] * 9),
        held_out=lambda: examples(2),
        normal_photos=(),
        num_photos=2,
        num_train=2,
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


def test_a_stages_key_depends_on_its_whole_name():
    keys = [jax.random.key_data(loop.stage_key(config(), n)) for n in ("segmenter", "segments")]
    assert not np.array_equal(*keys)
