"""DiffAD for minutes on one GPU: 256 × 256 photos, the choices of ``mvtec_small``.

Command:   python -m diffad_jax.main --config=configs/mvtec_fast.py:bottle --workdir=runs/fast
           (without TensorFlow: --config.data.recorded=FILE, made elsewhere by --mode=record)
Hardware:  one NVIDIA H200, 16 CPU cores; 3.5 GiB of its memory, 10 GiB on the host
Cost:      2.1 + 33.7 + 28.7 PFLOP in the three stages (python -m benchmarks.flops), a thirtieth of
           ``mvtec``
Minutes:   not measured: 12 to 14 by the rates of an earlier run, with evaluation and compilation
Results:   not measured as it stands; docs/results.md has an earlier recipe on a GPU, and this one
           shrunk to 64 × 64 on a CPU
"""

import ml_collections

from configs import mvtec, mvtec_small


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec_small.few_steps(mvtec.get_config(category))
    config.data.resize = "antialias"
    config.training.compute_dtype = "auto"
    config.training.checkpoint_every = 2000

    # 32 × 32 × 16 latents, by 4 × 4 patches and one halving.
    config.autoencoder.latent_channels = 16
    config.autoencoder.multipliers = (1, 2)
    config.autoencoder.patch_size = 4
    config.autoencoder.steps = 1000
    config.autoencoder.batch_size = 16
    config.autoencoder.learning_rate = 5e-4
    config.autoencoder.warmup_steps = 100

    config.diffusion.channels = 128
    config.diffusion.attention_downsampling = (2, 4)
    config.diffusion.steps = 12_000
    config.diffusion.learning_rate = 5e-4
    config.diffusion.warmup_steps = 100
    config.diffusion.ema_decay = 0.998

    config.segmentation.patch_size = 2
    config.segmentation.steps = 12_000
    config.segmentation.batch_size = 16
    config.segmentation.warmup_steps = 100
    return config
