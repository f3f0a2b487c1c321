"""Eight simulated devices train as one does; tests/slow has two processes, of which one is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from conftest import tiny_flags_for

from diffad_jax.errors import UserError
from diffad_jax.runtime import processes

ROOT = Path(__file__).parents[2]
# Sums over a batch in another order, through three Adam steps.
TOLERANCE = 1e-3


def start(photos, workdir, *flags, devices=1) -> subprocess.Popen:
    env = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    }
    command = ["-m", "diffad_jax.main", *tiny_flags_for(photos)]
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


def assert_as_on_one_device(found, expected):
    assert found.keys() == expected.keys() and len(found) == 12
    for step, loss in found.items():
        assert loss == pytest.approx(expected[step], rel=TOLERANCE), step


def losses(workdir):
    lines = (workdir / "tiles" / "metrics.jsonl").read_text().splitlines()
    return {(e["stage"], e["step"]): e["loss"] for e in map(json.loads, lines)}


def test_eight_devices_that_also_split_the_weights(photos, trained, tmp_path):
    finish(start(photos, tmp_path, "--config.mesh.fsdp=2", devices=8))
    assert_as_on_one_device(losses(tmp_path), losses(trained.workdir))


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
