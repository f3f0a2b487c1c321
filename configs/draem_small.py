"""DRAEM shrunk to two CPU cores, as ``mvtec_small`` shrinks DiffAD: 128 × 128 photos.

Command:   python -m diffad_jax.main --config=configs/draem_small.py:bottle --workdir=runs/draem \\
             --config.data.root=data/mvtec --config.data.textures=data/dtd
Hardware:  2 CPU cores
Minutes:   45 on one core, beside other work on the other
Memory:    2.2 GB
Results:   docs/results.md
"""

import ml_collections

from configs import draem, mvtec_small


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec_small.small_photos(draem.get_config(category), 128)
    config.data.textures = "procedural"  # nothing to download
    config.draem.reconstructor_channels = 64
    config.draem.reconstructor_multipliers = (1, 2, 2, 2)
    config.draem.segmenter_channels = 32
    config.draem.segmenter_multipliers = (1, 2, 4, 4)
    config.draem.patch_size = 4
    config.draem.steps = 6000
    config.draem.learning_rate = 1e-3
    config.draem.warmup_steps = 50
    config.draem.decay = "cosine"
    return config
