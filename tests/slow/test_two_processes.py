"""Two processes train and evaluate as one does, and go on after one of them was killed."""

import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from diffad_jax.commands import evaluate
from diffad_jax.config import stored
from diffad_jax.runtime import processes
from tests.conftest import ROOT
from tests.runtime.test_devices import assert_as_on_one_device, finish, losses, start


def as_two() -> list[list[str]]:
    """The flags of each."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"--coordinator=localhost:{probe.getsockname()[1]}"
    return [[address, "--num_processes=2", f"--process_id={i}"] for i in range(2)]


def start_two(photos, workdir) -> list[subprocess.Popen]:
    return [start(photos, workdir, *flags) for flags in as_two()]


def test_two_processes_go_on_after_one_was_killed(photos, trained, tmp_path):
    left, killed = start_two(photos, tmp_path)
    checkpoint = tmp_path / "tiles" / "autoencoder" / "2"
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    _, err = left.communicate(timeout=300)  # it does not wait for ever
    assert left.returncode in (processes.LOST_STATUS, -signal.SIGABRT), err
    assert "another of the 2 is gone" in err or "another task died" in err
    finish(*start_two(photos, tmp_path))
    assert_as_on_one_device(losses(tmp_path), losses(trained.workdir))
    assert (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("batch_size", [2, 4])  # three batches, and one and a half
def test_two_processes_evaluate_to_the_bit_as_one(photos, weights_file, tmp_path, batch_size):
    settings = {
        "data.root": photos,
        "data.validation_share": 0.6,
        "image_size": 16,
        "evaluation.batch_size": batch_size,
        "padim.dimensions": 8,
        "backbone.name": "resnet18",
        "backbone.layers": "('layer1',)",
        "backbone.weights": weights_file,
    }
    flags = [f"--config.{k}={v}" for k, v in settings.items()]
    flags += ["--config=configs/padim.py:tiles", f"--workdir={tmp_path}"]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "diffad_jax.main", *flags, *of_process],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for of_process in as_two()
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert ["all metrics in" in out for out, _ in said] == [True, False]  # one speaks
    found = figures(tmp_path)
    evaluate.evaluate(stored.of_workdir(tmp_path, []), tmp_path, overwrite=True)
    assert figures(tmp_path) == found
    left = {p.name for p in (tmp_path / "tiles").iterdir()}
    assert not [name for name in left if name.endswith(".tmp")]


def figures(workdir) -> dict:
    """All that is counted, and the reports, but for what the work cost."""
    categories = json.loads((workdir / "metrics.json").read_text())["categories"]
    del categories["tiles"]["cost"]
    return categories | {"threshold": json.loads((workdir / "tiles/threshold.json").read_text())}
