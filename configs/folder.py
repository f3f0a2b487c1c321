"""Your own photos: good ones in, defects found and located.

Command:   python -m diffad_jax.main --config=configs/folder.py:bottles \\
             --config.data.root=PHOTOS --workdir=runs/mine
Data:      PHOTOS/bottles holds the good photos, directly or in train/good. Optional: photos to
           test on in PHOTOS/bottles/test/good and PHOTOS/bottles/test/DEFECT, with masks in
           PHOTOS/bottles/ground_truth/DEFECT. Metrics that lack photos are left out, with a note.
Method:    DiffAD, or --config.method=draem, riad, padim or patchcore with their small recipes
           (all but draem and riad need pip install 'diffad_jax[backbone]')
Then:      python -m diffad_jax.main --workdir=runs/mine --mode=predict --input=NEW_PHOTOS \\
             --output=runs/mine/predictions
Hardware:  2 CPU cores
Minutes:   those of mvtec_small, whose recipe it is (of draem_small … for the others)
Result:    not measured
"""

import ml_collections

from configs import draem_small, mvtec_small, padim, patchcore, riad_small

RECIPES = {
    "diffad": mvtec_small,
    "draem": draem_small,
    "riad": riad_small,
    "padim": padim,
    "patchcore": patchcore,
}


def get_config(category: str | None = None, method: str = "diffad") -> ml_collections.ConfigDict:
    """The recipe of ``method`` that two CPU cores can train, for photos in a folder."""
    recipe = RECIPES.get(method, mvtec_small)  # the check names a method that does not exist
    config = recipe.get_config(category or "photos")
    config.data.root = "."
    config.data.layout = "folder"
    config.data.proportions = "photos"
    config.evaluation.mask_rule = "half"
    return config
