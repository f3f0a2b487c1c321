"""DRAEM (ICCV 2021) on MVTec AD with the networks and the recipe of the published code.

Command:   python -m diffad_jax.main --config=configs/draem.py:bottle --workdir=runs/draem \\
             --config.data.root=data/mvtec --config.data.textures=data/dtd
Differs:   from the published code: the last batch of an epoch is filled up, brightness changes RGB
           (theirs a colour space drawn from six), a tenth of the normal photos is held out
           (at least 19; config.data.validation_share = 0: none).
Hardware:  an accelerator
Result:    not measured (DiffAD's paper reports 98.0 image AUROC, 97.3/68.4 pixel AUROC/AP)
"""

import ml_collections

from configs import mvtec


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec.of_method("draem", category)
    config.data.textures = "dtd"
    return config
