"""An hour's share of mutants of a table of photos; the suite reads a few hundred."""

import resource
import time

from tests.data import table_mutants


def test_mutants_give_their_error_and_no_growth_of_memory(tmp_path):
    ends, seed = time.monotonic() + 300, 1
    table_mutants.fuzz(tmp_path, rounds=1000, seed=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    while time.monotonic() < ends:
        refused, _ = table_mutants.fuzz(tmp_path, rounds=1000, seed=seed)
        assert refused
        seed += 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 50_000
    print(f"{1000 * seed} mutants")
