"""DRAEM (ICCV 2021) on MVTec AD with the networks and the recipe of the published code.

Command:   python -m diffad_jax.main --config=configs/draem.py:bottle --workdir=runs/draem \\
             --config.data.root=data/mvtec --config.data.textures=data/dtd
Hardware:  an accelerator
Result:    not measured (DiffAD's paper reports 98.0 image AUROC, 97.3/68.4 pixel AUROC/AP)
"""

import ml_collections

from configs import mvtec


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    return mvtec.of_method("draem", category)
