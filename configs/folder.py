"""Your own photos: good ones in, defects found and located.

Command:   python -m diffad_jax.main --config=configs/folder.py:bottles \\
             --config.data.root=PHOTOS --workdir=runs/mine
Data:      PHOTOS/bottles holds the good photos, directly or in train/good. Optional: photos to
           test on in PHOTOS/bottles/test/good and PHOTOS/bottles/test/DEFECT, with masks in
           PHOTOS/bottles/ground_truth/DEFECT. What is missing is not computed, and says so.
Then:      python -m diffad_jax.main --config=configs/folder.py:bottles --workdir=runs/mine \\
             --mode=predict --input=NEW_PHOTOS --output=runs/mine/predictions
Hardware:  2 CPU cores
Minutes:   those of mvtec_small, whose recipe it is
Result:    not measured
"""

import ml_collections

from configs import mvtec_small


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec_small.get_config(category or "photos")
    config.data.root = "."
    config.data.layout = "folder"
    return config
