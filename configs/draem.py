"""DRAEM (ICCV 2021) on MVTec AD with the networks and the recipe of the published code.

Command:   python -m diffad_jax.main --config=configs/draem.py:bottle --workdir=runs/draem \\
             --config.data.root=data/mvtec --config.data.textures=data/dtd
Hardware:  an accelerator
Result:    not measured (DiffAD's paper reports 98.0 image AUROC, 97.3/68.4 pixel AUROC/AP)
"""

import ml_collections

from configs import mvtec


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec.trained("draem", category)
    config.draem = draem()
    return config.lock()


def draem() -> ml_collections.ConfigDict:
    c = ml_collections.ConfigDict()
    c.reconstructor_channels = 128
    c.reconstructor_multipliers = (1, 2, 4, 8, 8)
    c.segmenter_channels = 64
    c.segmenter_multipliers = (1, 2, 4, 8, 8, 8)
    c.patch_size = 1  # p > 1: p x p patches in, pixel shuffle out (for CPUs)
    c.focal_gamma = 2.0
    c.epochs = 700  # of as many examples as there are normal photos
    c.steps = 0  # batches; 0: as many as make the epochs
    c.batch_size = 8
    c.accumulation = 1  # batches a step of the optimiser
    c.learning_rate = 1e-4
    c.warmup_steps = 0
    c.decay = "steps"  # constant | cosine | steps: x 0.2 at 80 % and again at 90 %
    return c
