"""What a training tells of itself: what it will do, and when it will be done."""

import ml_collections
import numpy as np
import pytest

from diffad_jax.data.split import Split
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import progress as counted
from diffad_jax.training import outlook
from diffad_jax.training.data import Data
from diffad_jax.training.progress import Progress

RNG = np.random.default_rng(0)


@pytest.fixture
def clock(monkeypatch):
    now = [50.0]
    monkeypatch.setattr("diffad_jax.training.progress.time.monotonic", lambda: now[0])
    return now


def test_the_time_left_is_that_of_the_stage_and_of_all(clock, capsys):
    a_step, asked = RNG.uniform(1.0, 3.0), []

    def flop_after():
        asked.append(1)
        return 1000.0 * 60.0  # as 60 of its own steps

    with Progress("bottle/segmentation", 0, 100, 8, "float32", flop_after) as shown:
        with shown.compiling():
            clock[0] += 86.0
        shown.count_work(1000.0)
        for step in range(1, 101):
            clock[0] += 30.0 if step == 1 else a_step  # the first one begins late
            shown.done(step)
            shown.update(step, {"loss": 1.0})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"bottle/segmentation: {counted.COMPILING}"
    assert lines[1] == "bottle/segmentation: compiled in 86.0 s" and asked == [1]
    assert "step 1/100" in lines[2] and "left" not in lines[2]
    timed = next(i for i in range(2, 99) if (i - 1) * a_step >= 5.0)
    told = (100 - timed + 60) * a_step
    assert f"{counted.about(told)} of training left, if later stages" in lines[3]
    middle = next(line for line in lines[4:])
    step = int(middle.partition("step ")[2].partition("/")[0])
    left = [counted.clock((100 - step + later) * a_step) for later in (0, 60)]
    assert middle.endswith(f"{left[0]} left, {left[1]} of all stages")
    assert "step 100/100" in lines[-1] and len(lines) < 5 + 99 * a_step / counted.EVERY


def test_the_flop_of_all_steps_are_counted_before_any_is_done(tiny_config):
    config = ml_collections.FrozenConfigDict(tiny_config)
    first, *_, fitted = get_method(config).stages(config)
    data = Data(
        batches=lambda *args: iter(()), held_out=dict, normal_photos=(),
        num_photos=8, num_train=8, photos="",
    )  # fmt: skip
    once = outlook.flop_of_stages([fitted, first], config, data, {})
    assert once[fitted.name] == 0.0 and once[first.name] > 0.0
    tiny_config.autoencoder.steps *= 3
    more = outlook.flop_of_stages([first], ml_collections.FrozenConfigDict(tiny_config), data, {})
    assert more == {first.name: pytest.approx(3.0 * once[first.name])}


def test_one_line_says_what_will_happen(tiny_config):
    config = ml_collections.FrozenConfigDict(tiny_config)
    photos = Split({str(i): "" for i in range(188)}, {f"h{i}": "" for i in range(21)})
    said = outlook.describe(get_method(config).stages(config), config, {"a": photos}, 209)
    assert said.startswith("188 photos to train on, 21 held out for the threshold; 4 stages: ")
    assert "(4 steps)" in said and said.endswith("(one pass); then evaluation")
    few = Split({str(i): "" for i in range(8)}, {"h0": "", "h1": ""})
    said = outlook.describe(get_method(config).stages(config), config, {"a": few}, 10)
    assert said.startswith("8 photos to train on, 2 held out; 4 stages: ")
    said = outlook.describe(get_method(config).stages(config), config, {"a": few, "b": photos}, 10)
    assert said.startswith("196 photos of 2 categories to train on, 23 held out; 4 stages: ")
