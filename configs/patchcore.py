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

from configs import mvtec


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec.of_method("patchcore", category)
    # The paper takes layer2 and layer3 of a wide ResNet, maps 8 and 16 times smaller. The ones of
    # this network at 4 have four times as many patches: the bank holds as many as the paper's.
    config.backbone.layers = ("stage2", "stage5")
    config.patchcore.bank_share = 0.0025
    return config
