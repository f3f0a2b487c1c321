"""The benchmark of training steps measures what it says. Nothing is judged by its time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import measure_train, train
from benchmarks.measure_train import Plan
from diffad_jax.runtime import peaks

# A process in which the benchmark has neither PyTorch nor what only data and checkpoints need.
WITHOUT = """
import json, sys
for name in ("tensorflow", "tensorflow_datasets", "orbax", "sklearn", "PIL", "torch"):
    sys.modules[name] = None
from benchmarks import measure_train
from configs import mvtec_small
config = mvtec_small.get_config()
config.image_size, config.autoencoder.channels, config.autoencoder.num_res_blocks = 16, 4, 0
config = measure_train.settle(config, "autoencoder", 2, "bfloat16")
plan = measure_train.Plan(rounds=1, steps=1)
print(json.dumps(measure_train.measure(config, "autoencoder", plan)))
"""


@pytest.fixture
def config(tiny_config):
    """Tinier: what a step takes is not looked at here."""
    tiny_config.autoencoder.num_res_blocks = 0
    tiny_config.diffusion.multipliers = tiny_config.diffusion.attention_downsampling = (1,)
    tiny_config.diffusion.num_res_blocks = 1
    tiny_config.diffusion.prediction = "epsilon"  # the first loss hardly depends on the timesteps
    return tiny_config


@pytest.mark.parametrize(
    ("stage", "dtype"),
    [("autoencoder", "float32"), ("denoiser", "bfloat16"), ("segmenter", "float32")],
)
def test_ours_and_pytorch_take_the_same_steps(config, stage, dtype):
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    config = measure_train.settle(config, stage, 4, dtype)
    plan = Plan(runs=("jax", "torch_eager"), rounds=2, steps=1)
    row = measure_train.measure(config, stage, plan)
    ours, theirs = row["runs"]["jax"], row["runs"]["torch_eager"]
    assert theirs["first_loss"] == pytest.approx(ours["first_loss"], rel=0.2)  # other draws
    for run in (ours, theirs):
        assert run["step_seconds"] >= run["best_step_seconds"] > 0
        assert run["examples_per_second"] * run["step_seconds"] == pytest.approx(4)
        assert run["flop_per_second"] * run["step_seconds"] == pytest.approx(row["flop_per_step"])
        assert run["utilisation"] is None  # nobody knows a CPU's peak
    assert ours["peak_memory_mib"] > 0 and ours["peak_memory_source"] == "compiled program"
    assert row["ratio"] == row["ratio_to_torch_eager"] > 0
    assert train.table(row).count("\n") == 2


def test_what_does_not_fit_or_is_not_covered_says_so(config):
    settled = measure_train.settle(config, "autoencoder", 4, "float32")
    row = measure_train.measure(settled, "autoencoder", Plan(memory_gib=1e-6))
    assert row["ratio"] is None and set(row["runs"]) == set(measure_train.RUNS)
    assert "does not fit in memory: ours needs" in train.table(row)

    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    from benchmarks import torch_training

    config.training.gradient_clip = 1.0
    settled = measure_train.settle(config, "autoencoder", 4, "float32")
    with pytest.raises(ValueError, match=r"not written for config\.training\.gradient_clip = 1"):
        torch_training.Training(None, settled, {}, {}, {}, {}, "cpu", seed=0)


def test_ours_is_measured_without_pytorch_and_tensorflow():
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", WITHOUT], cwd=root, capture_output=True, text=True)
    row = json.loads((run.stdout.splitlines() or ["null"])[-1])
    assert row, run.stderr
    assert row["runs"]["jax"]["step_seconds"] > 0 and row["dtype"] == "bfloat16"
    for name in ("torch_eager", "torch_compiled"):
        assert row["runs"][name] == {"reason": "PyTorch is not installed"}
    assert row["ratio"] is None and "PyTorch is not installed" in train.table(row)


def test_utilisation_only_where_the_peak_is_known():
    assert peaks.peak_flop_per_second("NVIDIA H100 80GB HBM3", "bfloat16") == 989.4e12
    assert peaks.peak_flop_per_second("NVIDIA H100 80GB HBM3", "float32") == 494.7e12
    assert peaks.peak_flop_per_second("TPU v5 lite", "float32") is None
    assert peaks.peak_flop_per_second("cpu", "float32") is None
