"""DiffAD planned for half an hour on one H200: 256 × 256 photos, the choices of ``mvtec_small``.

Command:   python -m diffad_jax.main --config=configs/mvtec_fast.py:bottle --workdir=runs/fast
           (without TensorFlow: --config.data.recorded=FILE, made elsewhere by --mode=record)
Cost:      9 + 67 + 51 PFLOP in the three stages (python -m benchmarks.flops), a sixteenth of
           ``mvtec``: 21 minutes at 100 TFLOP/s
Minutes:   not measured
Result:    not measured; ``mvtec_small`` is its shrunken form
"""

import ml_collections

from configs import mvtec, mvtec_small


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec_small.few_steps(mvtec.get_config(category))
    config.data.resize = "antialias"
    config.training.compute_dtype = "bfloat16"

    # 32 × 32 × 8 latents, by 4 × 4 patches and one halving.
    config.autoencoder.channels = 192
    config.autoencoder.latent_channels = 8
    config.autoencoder.multipliers = (1, 2)
    config.autoencoder.patch_size = 4
    config.autoencoder.steps = 2000
    config.autoencoder.batch_size = 16
    config.autoencoder.learning_rate = 5e-4
    config.autoencoder.warmup_steps = 200

    config.diffusion.channels = 192
    config.diffusion.steps = 10000
    config.diffusion.learning_rate = 3e-4
    config.diffusion.warmup_steps = 200
    config.diffusion.ema_decay = 0.999

    config.segmentation.patch_size = 2
    config.segmentation.steps = 6000
    config.segmentation.warmup_steps = 100
    return config
