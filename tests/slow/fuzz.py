"""An hour of mutants over all readers: nothing but their own errors, and no growth of memory.

The suite reads a few hundred of each kind. Every reader gets the same share of the time, in a
process of its own; what escapes is named with the seed that makes it again.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does

from tests.convert import weight_files
from tests.data import hostile, table_mutants
from tests.export import exported_folder

ROUNDS = 500
MOST_GROWTH_MIB = 50
READERS: dict[str, Callable[..., tuple[int, int]]] = {
    **{k: partial(hostile.fuzz, kind=k) for k in hostile.KINDS},
    "torch file, safetensors": weight_files.fuzz,
    "exported folder": exported_folder.fuzz,
    "table of photos": table_mutants.fuzz,
}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _run(fuzz: Callable, seconds: float, answers: Any) -> None:
    inputs, refused, seed, escapes = 0, 0, 0, []
    with tempfile.TemporaryDirectory(prefix="fuzz.") as folder:
        fuzz(Path(folder), rounds=ROUNDS, seed=seed)
        before, ends = _peak_mib(), time.monotonic() + seconds
        while time.monotonic() < ends:
            seed += 1
            try:
                no, yes = fuzz(Path(folder), rounds=ROUNDS, seed=seed)
                inputs, refused = inputs + no + yes, refused + no
            except Exception as error:
                escapes.append(f"seed {seed}: {error!r}: {error.__cause__!r}"[:500])
    growth = round(_peak_mib() - before, 1)
    answers.put({"inputs": inputs, "refused": refused, "escapes": escapes, "growth_mib": growth})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="in all")
    args = parser.parse_args()
    found, start = {}, multiprocessing.get_context("fork")
    print(f"{'reader':<26} {'inputs':>9} {'refused':>9} {'escapes':>8} {'growth, MiB':>12}")
    for name, fuzz in READERS.items():
        answers = start.SimpleQueue()
        process = start.Process(target=_run, args=(fuzz, args.seconds / len(READERS), answers))
        process.start()
        process.join()
        row = {"inputs": 0, "refused": 0, "escapes": ["the process died"], "growth_mib": 0.0}
        found[name] = row = row if answers.empty() else answers.get()
        print(f"{name:<26} {row['inputs']:>9} {row['refused']:>9} {len(row['escapes']):>8} "
              f"{row['growth_mib']:>12}", flush=True)  # fmt: skip
        for escape in row["escapes"]:
            print(f"  {escape}", flush=True)
    bad = [k for k, v in found.items() if v["escapes"] or v["growth_mib"] > MOST_GROWTH_MIB]
    print(json.dumps({"seconds": args.seconds, "readers": found, "bad": bad}))


if __name__ == "__main__":
    main()
