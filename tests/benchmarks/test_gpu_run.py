"""The run of all that is measured on a GPU, with a stand-in for Python; tests/slow has it at toy
size."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Notes its arguments; takes SLOW seconds where they hold SLOW_PART, fails where they hold BROKEN.
PYTHON = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
if [[ $* == *"$BROKEN"* ]]; then exit 1; fi
if [[ $* == *"$SLOW_PART"* ]]; then sleep "$SLOW" & wait; fi
"""


@pytest.fixture
def run(tmp_path):
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def run(**settings):
        plain = {
            "BROKEN": "nothing", "SLOW_PART": "nothing", "SLOW": "30", "SIZE": "full",
            "PYTHON": str(python), "CALLS": str(tmp_path / "calls"), "OUT": str(tmp_path / "out"),
            "ROOT_OF_PHOTOS": "photos", "RECORDED": "r.zip",
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "benchmarks/gpu_run.sh"],
            cwd=ROOT,
            env=os.environ | plain | settings,
            capture_output=True,
            text=True,
            timeout=60,
        )
        rows = [line.split("\t") for line in done.stdout.splitlines()[1:]]
        calls = (tmp_path / "calls").read_text().splitlines()
        return done.returncode, [(name, status) for name, status, _ in rows], calls

    return run


PARTS = ["mvtec_fast", "latency_64", "latency_1", "train", "patchcore"]


def test_parts_run_by_their_worth(run):
    status, parts, calls = run()
    assert status == 0 and parts == [(name, "0") for name in PARTS]
    assert "--config.data.recorded=r.zip" in calls[0] and "tensorflow" not in " ".join(calls)
    assert "benchmarks.train" in calls[3] and "patchcore.py:bottle" in calls[4]


def test_a_part_that_fails_costs_no_other(run):
    assert run(BROKEN="benchmarks.train")[1] == [(n, "1" if n == "train" else "0") for n in PARTS]


def test_what_is_left_of_the_budget_is_kept(run):
    _, parts, _ = run(SLOW_PART="mvtec_fast", BUDGET="2")
    assert parts == [("mvtec_fast", "124"), *((name, "left out") for name in PARTS[1:])]


def test_what_is_missing_is_named(run):
    assert run(SIZE="toy")[0] == 0
    done = subprocess.run(
        ["bash", "benchmarks/gpu_run.sh"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode and "ROOT_OF_PHOTOS: names the folder of the photos" in done.stderr
