"""An hour's share of mutants of photos, masks and recordings; the suite reads a few hundred."""

import resource
import time

import pytest

from tests.data import hostile

SECONDS = 300


@pytest.mark.parametrize("kind", ["photo", "mask", "recording"])
def test_mutants_give_their_error_and_no_growth_of_memory(tmp_path, kind):
    ends, seed = time.monotonic() + SECONDS, 1
    hostile.fuzz(tmp_path, kind, rounds=1000, seed=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    while time.monotonic() < ends:
        refused, read = hostile.fuzz(tmp_path, kind, rounds=1000, seed=seed)
        assert refused and read
        seed += 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 50_000
    print(f"{1000 * seed} mutants")
