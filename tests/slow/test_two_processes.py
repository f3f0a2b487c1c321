"""Two processes train as one does, and go on after one of them was killed."""

import signal
import socket
import subprocess
import time

from diffad_jax.runtime import processes
from tests.runtime.test_devices import assert_as_on_one_device, finish, losses, start


def start_two(photos, workdir) -> list[subprocess.Popen]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"--coordinator=localhost:{probe.getsockname()[1]}"
    return [
        start(photos, workdir, address, "--num_processes=2", f"--process_id={i}") for i in range(2)
    ]


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
    finish(start(photos, tmp_path))  # what is left for one: to evaluate
    assert (tmp_path / "metrics.json").exists()
