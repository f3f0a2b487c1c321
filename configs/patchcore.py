"""PatchCore (CVPR 2022) on MVTec AD: fitted in one pass, without gradients.

Command:   python -m diffad_jax.main --config=configs/patchcore.py:bottle \\
             --workdir=runs/patchcore --config.data.root=data/mvtec --config.backbone.weights=FILE
           (for magnetic tiles :magnetic_tile)
Hardware:  2 CPU cores
Result:    Inception-v3, mask rule half, seed 0: bottle, image AUROC 1.0000, AP 1.0000, pixel AUROC
           0.9812, AP 0.7049, PRO 0.9279; magnetic tiles 0.8931, 0.9396, 0.7885, 0.2461, 0.7303
Cost:      bottle, 209 photos: fitted in 262 s (peak 1.4 GB), 0.96 s a photo at test, on a machine
           with much other work: fit and evaluation took 81 s of the processor. Magnetic tiles,
           761 photos: 1667 s (peak 1.7 GB), 0.47 s a photo; 326 s of the processor
"""

import ml_collections

from configs import padim


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = padim.fitted("patchcore", category)
    config.backbone = padim.backbone()
    # The paper takes layer2 and layer3 of a wide ResNet: maps 8 and 16 times smaller.
    config.backbone.layers = ("mixed_2", "mixed_7")
    config.patchcore = patchcore()
    return config.lock()


def patchcore() -> ml_collections.ConfigDict:
    """As published for a bank of one in a hundred patches."""
    c = ml_collections.ConfigDict()
    c.bank_share = 0.01  # of the normal photos' patches
    c.max_bank = 10_000  # patches at most
    c.max_candidates = 200_000  # patches that the bank is chosen from, a uniform sample of all
    c.projection = 128  # dimensions that distances are compared in while choosing
    c.neighbours = 9  # of the bank's nearest patch, to weigh a score by; 1: no weighing
    c.smoothing_sigma = 4.0  # of the Gaussian filter over the map, in pixels
    return c
