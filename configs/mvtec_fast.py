"""DiffAD planned for half an hour on one H200: 256 × 256 photos, the choices of ``mvtec_small``.

Command:   python -m diffad_jax.main --config=configs/mvtec_fast.py:bottle --workdir=runs/fast
           (without TensorFlow: --config.data.recorded=FILE, made elsewhere by --mode=record)
Cost:      23 + 67 + 59 PFLOP in the three stages (python -m benchmarks.flops), a fourteenth of
           ``mvtec``: 25 minutes at 100 TFLOP/s
Minutes:   not measured
Result:    not measured; ``mvtec_small`` is its shrunken form
"""

import ml_collections

from configs import mvtec


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = mvtec.get_config(category)
    config.data.resize = "antialias"
    config.synthesis.grey_as_photo = True
    config.synthesis.own_texture_probability = 0.3
    config.training.compute_dtype = "bfloat16"

    config.autoencoder.channels = 192
    config.autoencoder.num_res_blocks = 2
    config.autoencoder.latent_channels = 8
    config.autoencoder.multipliers = (1, 2)
    config.autoencoder.patch_size = 4
    config.autoencoder.dropout = 0.0
    config.autoencoder.perceptual = "none"
    config.autoencoder.adversarial_weight = 0.0
    config.autoencoder.steps = 5000
    config.autoencoder.batch_size = 16
    config.autoencoder.accumulation = 1
    config.autoencoder.learning_rate = 1e-3
    config.autoencoder.warmup_steps = 200
    config.autoencoder.decay = "cosine"
    config.autoencoder.betas = (0.9, 0.99)

    config.diffusion.channels = 192
    config.diffusion.latent_scale = 0.0
    config.diffusion.prediction = "v"
    config.diffusion.trained_timesteps = (450, 1000)
    config.diffusion.condition_timesteps = (0, 250)
    config.diffusion.steps = 10000
    config.diffusion.batch_size = 32
    config.diffusion.learning_rate = 3e-4
    config.diffusion.warmup_steps = 200
    config.diffusion.decay = "cosine"
    config.diffusion.ema_decay = 0.999

    config.reconstruction.training_steps = 2
    config.reconstruction.test_steps = 2
    config.reconstruction.spacing = "trailing"

    config.segmentation.patch_size = 2
    config.segmentation.input = "differences"
    config.segmentation.steps = 6000
    config.segmentation.batch_size = 32
    config.segmentation.warmup_steps = 100
    config.segmentation.decay = "cosine"
    return config
