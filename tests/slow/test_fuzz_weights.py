"""Five minutes of mutants of files of weights; the suite reads two thousand."""

import resource
import time

from tests.convert import weight_files


def test_mutants_give_their_error_and_no_growth_of_memory(tmp_path):
    ends, seed = time.monotonic() + 300, 1
    weight_files.fuzz(tmp_path, rounds=1000, seed=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    while time.monotonic() < ends:
        refused, read = weight_files.fuzz(tmp_path, rounds=1000, seed=seed)
        assert refused and read
        seed += 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 50_000
    print(f"{1000 * seed} mutants")
