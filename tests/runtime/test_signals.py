"""Ctrl-C: while modules are imported, while C++ computes, and a second time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Seconds without a step of Python's, as a compilation is.
BUSY = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 2**30)"
ASKING = f"""
import signal
from diffad_jax.runtime.signals import StopSignal
with StopSignal():
    print("begun", flush=True)
    {BUSY}
"""
IN_A_MODE = f"""
from diffad_jax.commands import command_line, program
def parse(argv, mirrors):
    print("begun", flush=True)
    {BUSY}
command_line.parse = parse
program.run([])
"""


def start(code: str) -> subprocess.Popen:
    """The code's process, once it has begun."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)
    assert process.stdout.readline() == "begun\n"
    return process


def test_a_second_one_ends_a_compilation():
    with start(ASKING) as process:
        process.send_signal(signal.SIGINT)
        assert "Ctrl-C again ends at once" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read() == "stopped\n"


def test_where_nothing_is_saved_the_first_one_ends_it():
    with start(IN_A_MODE) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read() == "stopped\n"


def test_where_python_hears_of_it_it_ends_as_others_do():
    both = "signal.raise_signal(signal.SIGINT); signal.raise_signal(signal.SIGINT)"
    with start(ASKING.replace(BUSY, both)) as process:
        assert process.stderr.read().splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.parametrize("module", ["diffad_jax", "diffad_jax.main"])
def test_while_modules_are_imported(tmp_path, module):
    interrupted = "import os, time; os.kill(os.getpid(), 2); time.sleep(9)"
    (tmp_path / "jax.py").write_text(interrupted)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", module, "--version"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (130, "stopped\n")
