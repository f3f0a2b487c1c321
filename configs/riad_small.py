"""RIAD shrunk to two CPU cores, as ``mvtec_small`` shrinks DiffAD: 128 × 128 photos.

Command:   python -m diffad_jax.main --config=configs/riad_small.py:bottle --workdir=runs/riad \\
             --config.data.root=data/mvtec
Hardware:  2 CPU cores
Minutes:   40 on a core of its own (magnetic_tile), 74 beside three other jobs (bottle)
Memory:    2.4 GB
Results:   docs/results.md
"""

import ml_collections

from configs import mvtec_small, riad


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec_small.small_photos(riad.get_config(category), 128)
    config.riad.channels = 32
    config.riad.multipliers = (1, 2, 4, 4)
    config.riad.patch_size = 4
    config.riad.square_sizes = (2, 4, 8)
    config.riad.steps = 6000
    config.riad.batch_size = 8
    config.riad.learning_rate = 1e-3
    config.riad.warmup_steps = 50
    config.riad.decay = "cosine"
    return config
