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
    config = mvtec.of_method("riad", category)
    # It learns from normal photos as they are; anomalies are for its validation alone.
    config.synthesis.rotation_probability = 0.0
    return config
