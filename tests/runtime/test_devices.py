"""Eight simulated devices, and two processes, train as one device does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from conftest import tiny_flags_for

from diffad_jax.errors import UserError
from diffad_jax.runtime import processes

ROOT = Path(__file__).parents[2]
BATCHES = [f"--config.{s}.batch_size=8" for s in ("autoencoder", "diffusion", "segmentation")]
STEPS = [f"--config.{s}.steps=3" for s in ("autoencoder", "diffusion", "segmentation")]
# Sums over a batch in another order, through three Adam steps.
TOLERANCE = 1e-3


def start(photos, workdir, *flags, devices=1) -> subprocess.Popen:
    env = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    }
    command = ["-m", "diffad_jax.main", *tiny_flags_for(photos), *BATCHES, *STEPS]
    return subprocess.Popen(
        [sys.executable, *command, f"--workdir={workdir}", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


def finish(*processes):
    for process in processes:
        _, err = process.communicate(timeout=900)
        assert process.returncode == 0, err


def losses(workdir):
    lines = (workdir / "tiles" / "metrics.jsonl").read_text().splitlines()
    return {(e["stage"], e["step"]): e["loss"] for e in map(json.loads, lines)}


@pytest.fixture(scope="module")
def on_one_device(photos, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    finish(start(photos, workdir))
    return losses(workdir)


def assert_as_on_one(found, on_one_device):
    assert found.keys() == on_one_device.keys() and len(found) == 9
    for step, loss in found.items():
        assert loss == pytest.approx(on_one_device[step], rel=TOLERANCE), step


def test_eight_devices_that_also_split_the_weights(photos, on_one_device, tmp_path):
    finish(start(photos, tmp_path, "--config.mesh.fsdp=2", devices=8))
    assert_as_on_one(losses(tmp_path), on_one_device)


def start_two(photos, workdir) -> list[subprocess.Popen]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"--coordinator=localhost:{probe.getsockname()[1]}"
    return [
        start(photos, workdir, address, "--num_processes=2", f"--process_id={i}") for i in range(2)
    ]


def test_two_processes_go_on_after_one_was_killed(photos, on_one_device, tmp_path):
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
    assert_as_on_one(losses(tmp_path), on_one_device)
    finish(start(photos, tmp_path))  # what is left for one: to evaluate
    assert (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (jax.errors.JaxRuntimeError("UNKNOWN: Gloo AllReduce failed"), processes.LOST_STATUS),
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection reset"), processes.LOST_STATUS),
        (ValueError("operands could not be broadcast"), 1),
        (UserError("photos of Gloo.png: it is broken"), 1),
    ],
    ids=str,
)
def test_only_what_jax_says_of_another_process_asks_for_a_new_start(error, status, monkeypatch):
    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(processes.os, "_exit", leave)
    monkeypatch.setattr(processes, "_LAST_SECONDS", 0)
    monkeypatch.setattr(processes, "end", leave)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    with pytest.raises(SystemExit) as left, processes.exit_together_on_failure():
        raise error
    assert left.value.code == status


def test_a_mesh_or_a_batch_that_does_not_fit_is_named(photos, tmp_path):
    process = start(photos, tmp_path, "--config.mesh.data=3", devices=8)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1 and "do not make 8 device(s)" in err
    process = start(photos, tmp_path, "--config.autoencoder.batch_size=6", devices=8)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1 and "= 6 is not a multiple of 8 devices" in err
