"""The toy category in minutes: the networks of mvtec_small in few steps, on data made on the spot.

Command:   make demo, or
           python -m diffad_jax.main --config=configs/demo.py --workdir=runs/demo
Hardware:  2 CPU cores
Minutes:   5.1 on idle cores with the installation (384 s of the processor in all)
Memory:    3.5 GB
Result:    docs/results.md
"""

import ml_collections

from configs import mvtec_small


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec_small.get_config(category or "toy")
    config.data.root = "runs/toy_data"  # the toy category is written here
    config.data.layout = "toy"
    config.synthesis.rotation_probability = 0.0  # the products always lie the same way
    config.autoencoder.steps = 300
    config.diffusion.steps = 500
    config.segmentation.steps = 200
    config.training.checkpoint_every = 200
    return config
