"""Killed while it keeps corrections and takes calibrations: what was acknowledged is there."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from diffad_jax.data.corrections import Corrections, present

ROOT = Path(__file__).parents[2]


def killed_after(directory, seconds):
    """What a process acknowledged before it was killed: hashes, and numbers of calibrations."""
    command = [sys.executable, str(Path(__file__).with_name("keep_on.py")), str(directory)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        said = [process.stdout.readline()]  # it is at work
        time.sleep(seconds)
        process.kill()
        said += process.stdout.readlines()
    whole = [line.split() for line in said if line.endswith("\n")]
    return [w for kind, w in whole if kind == "kept"], [int(w) for k, w in whole if k == "taken"]


def check(directory, shas, last):
    """The threshold that counts; ``last`` is the last one that was acknowledged, or found."""
    kept = Corrections(directory)
    found = {c.sha256: c for c in kept.of("good")}
    assert {*shas} <= found.keys()
    for correction in found.values():
        assert kept.photo(correction), "and its photo is whole"
    taken = present(directory)
    threshold = 0 if taken is None else taken.threshold
    assert threshold == last or threshold - last in (1, 2, 3), "the old or the new one"
    return threshold


def test_what_was_acknowledged_survives(tmp_path):
    shas, last = [], 0
    for seconds in np.random.default_rng(0).uniform(0, 0.15, 3):
        kept, taken = killed_after(tmp_path, seconds)
        shas += kept
        last = check(tmp_path, shas, max(taken, default=last))
    assert len(shas) >= 3
