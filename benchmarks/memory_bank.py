"""PatchCore's bank from the patches of 10,000 training photos: seconds and peak memory.

    python -m benchmarks.memory_bank --photos=10000

The patches are made, not computed by a network: as many and as wide as those of Inception's mixed_2
and mixed_7 for photos of 256 × 256. Each batch passes by as it does in ``patchcore.fit``, then the
bank is chosen, and the patches of one more photo are looked up in it. The last line is one JSON
object.
"""

import argparse
import json
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from configs import patchcore as config
from diffad_jax.evaluation import cost
from diffad_jax.methods import patch_bank
from diffad_jax.methods.coreset import Candidates, coreset

MAX_MEMORY_MIB = 2 * 1024
PATCHES, CHANNELS, BATCH_SIZE = 29 * 29, 288 + 768, 16
_LOOK_UPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = config.get_config().patchcore
    parser.add_argument("--photos", type=int, default=10_000)
    for name in ("max_candidates", "max_bank"):
        parser.add_argument(f"--{name}", type=int, default=defaults[name])
    args = parser.parse_args()
    report = _measure(args, defaults.bank_share, defaults.projection)
    for name, metric in report.items():
        print(f"{name:24}{metric:12.2f}")
    if report["peak_memory_mib"] >= MAX_MEMORY_MIB:
        print(f"Above the limit of {MAX_MEMORY_MIB} MiB.")
    print(json.dumps(report))


def _batches(num_photos: int) -> Iterator[jax.Array]:
    """[b · patches, channels]: noise, moved and scaled otherwise in each batch."""
    rows = min(BATCH_SIZE, num_photos) * PATCHES
    noise = jax.random.normal(jax.random.key(0), (rows, CHANNELS))
    moved = jax.jit(lambda x, i: jnp.roll(x, i, axis=1) * (1.0 + jnp.sin(i) / 4))
    for i in range(num_photos // BATCH_SIZE):
        yield moved(noise, i)


def _measure(args: argparse.Namespace, share: float, projection: int) -> dict[str, float]:
    started = time.perf_counter()
    candidates = Candidates(args.max_candidates, CHANNELS, seed=0)
    for rows in _batches(args.photos):
        candidates.add(rows)
    passed = time.perf_counter()
    count = min(round(share * candidates.seen), args.max_bank, len(candidates.features()))
    bank = jnp.asarray(coreset(candidates.features(), count, projection, seed=0))
    chosen = time.perf_counter()
    nearest, photo = jax.jit(patch_bank.nearest), next(_batches(BATCH_SIZE))[None, :PATCHES]
    jax.block_until_ready(nearest(photo, bank))
    compiled = time.perf_counter()
    for _ in range(_LOOK_UPS):
        jax.block_until_ready(nearest(photo, bank))
    return {
        "photos": args.photos,
        "patches": candidates.seen,
        "candidates": len(candidates.features()),
        "bank": count,
        "passing_by_seconds": passed - started,
        "choosing_seconds": chosen - passed,
        "look_up_milliseconds_a_photo": 1e3 * (time.perf_counter() - compiled) / _LOOK_UPS,
        "peak_memory_mib": cost.peak_memory_mib(),
    }


if __name__ == "__main__":
    main()
