"""RIAD (Pattern Recognition 2021) on MVTec AD: reconstruction by inpainting.

Losses, masks and the map are the paper's; the network is DRAEM's U-Net with colours for classes.

Command:   python -m diffad_jax.main --config=configs/riad.py:bottle --workdir=runs/riad \\
             --config.data.root=data/mvtec
Hardware:  an accelerator
Result:    not measured (DiffAD's paper reports 91.7 image AUROC, 94.2/48.2 pixel AUROC/AP)
"""

import ml_collections

from configs import mvtec


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec.trained("riad", category)
    config.riad = riad()
    del config.evaluation.smoothing_power  # the mean filter is part of RIAD's map
    # It learns from normal photos as they are; anomalies are for its validation alone.
    config.synthesis.rotation_probability = 0.0
    return config.lock()


def riad() -> ml_collections.ConfigDict:
    c = ml_collections.ConfigDict()
    c.channels = 64
    c.multipliers = (1, 2, 4, 8, 8)
    c.patch_size = 1  # p > 1: p x p patches in, pixel shuffle out (for CPUs)
    c.square_sizes = (2, 4, 8, 16)  # side in pixels of the squares that are hidden
    c.num_masks = 3  # a photo is inpainted in so many parts
    c.epochs = 300
    c.steps = 0
    c.batch_size = 4
    c.accumulation = 1
    c.learning_rate = 1e-4
    c.warmup_steps = 0
    c.decay = "steps"  # constant | cosine | steps: x 0.2 at 80 % and again at 90 %
    return c
