"""PaDiM (ICPR 2020 workshops) on MVTec AD: fitted in one pass, without gradients.

Command:   python -m diffad_jax.main --config=configs/padim.py:bottle --workdir=runs/padim \\
             --config.data.root=data/mvtec --config.backbone.weights=FILE
           (for magnetic tiles :magnetic_tile)
Hardware:  2 CPU cores
Result:    Inception-v3, mask rule half, seed 0: bottle, image AUROC 0.9992, AP 0.9998, pixel AUROC
           0.9811, AP 0.6909, PRO 0.9299; magnetic tiles 0.8696, 0.9364, 0.7274, 0.1732, 0.7133
Cost:      bottle, 209 photos: fitted in 178 s (peak 1.3 GB), 0.70 s a photo at test, on a machine
           with much other work: fit and evaluation took 61 s of the processor. Magnetic tiles,
           761 photos: 274 s (peak 1.3 GB), 0.27 s a photo; 174 s of the processor
"""

import ml_collections

from configs import mvtec


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    return mvtec.of_method("padim", category)
