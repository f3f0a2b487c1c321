"""DiffAD's fields, and the conditions between them."""

from diffad_jax.config.common import (
    FOCAL_GAMMA,
    PATCH_SIZE,
    levels,
    steps,
    trained,
)
from diffad_jax.config.fields import (
    COUNT,
    DOWNLOAD,
    NATURAL,
    POSITIVE,
    PREDICTION,
    RUN,
    SHARE,
    Config,
    Field,
    section,
)
from diffad_jax.errors import ConfigError
from diffad_jax.methods.diffad import networks
from diffad_jax.methods.diffad.conditions import sampled_timesteps
from diffad_jax.methods.diffad.ddim import sampling_timesteps
from diffad_jax.models.layers import reduction

AUTOENCODER = trained(
    "autoencoder",
    "Stage 1: the KL autoencoder E, D.",
    **levels(128, (1, 2, 4, 4)),
    num_res_blocks=Field(2, "a level", COUNT),
    latent_channels=Field(4, "of z", COUNT),
    patch_size=PATCH_SIZE,
    dropout=Field(0.5, "while it trains", "[0, 1)"),
    linear_skip=Field(False, "adds linear maps from patches to the latent and back"),
    signed=Field(
        False, "maps [0, 1] to [-1, 1] before E and back after D (imported kl-f8, diffusers)"
    ),
    exposure=Field(
        0.0, "root mean square of each photo as the networks see it; 0: as it is", SHARE
    ),
    input=Field(
        "image",
        "what it learns to copy: image (published) | augmented_image",
        choices=("image", "augmented_image"),
    ),
    kl_weight=Field(1e-6, "of the KL term", NATURAL),
    perceptual=Field(
        "lpips",
        "lpips (published) | inception | none",
        choices=("lpips", "inception", "none"),
    ),
    # Its content is a part of the fingerprint.
    perceptual_file=Field(
        "",
        "its weights: for lpips torchvision's VGG16, or download; empty: lpips is off",
        use=RUN,
        place=True,
    ),
    perceptual_heads=Field("", "the heads of lpips: its vgg.pth, or download", use=RUN, place=True),
    perceptual_weight=Field(1.0, "of the perceptual term", NATURAL),
    adversarial_weight=Field(0.5, "times the adaptive weight; 0: no discriminator", NATURAL),
    adversarial_start=Field(50_001, "updates of the autoencoder before it", NATURAL),
    discriminator_channels=Field(64, "of its first layer", COUNT),
    discriminator_layers=Field(3, "that halve the map", COUNT),
    **steps(
        epochs=1000,  # assumed; not in the paper
        batch_size=8,
        accumulation=2,
        learning_rate=4.5e-6 * 8 * 2,
        decay="constant",
    ),
    betas=Field((0.5, 0.9), "of Adam", "[0, 1)", pair=True),
)
WINDOW = section(
    "autoencoder",
    "Windows of a photo in place of the whole, for all three networks; not in the paper, and off.",
    window=Field(
        0, "pixels a side of what all networks see: windows of a photo; 0: whole photos", NATURAL
    ),
)
DIFFUSION = trained(
    "diffusion",
    "Stage 2: the conditional latent denoiser.",
    **levels(256, (1, 2, 4)),
    num_res_blocks=Field(2, "a level", COUNT),
    attention_downsampling=Field(
        (1, 2, 4), "attention where the latent is this much smaller", COUNT, empty=True
    ),
    head_channels=Field(32, "of an attention head", COUNT),
    linear_skip=Field(False, "adds a linear map of z_t and the condition to the output"),
    timesteps=Field(1000, "of the noise schedule", COUNT),
    trained_timesteps=Field(
        (0, 1000), "t is drawn from the first to below the last", NATURAL, pair=True
    ),
    beta_start=Field(0.0015, "of the schedule", "(0, 1)"),
    beta_end=Field(0.02, "of the schedule", "(0, 1)"),
    prediction=Field(
        "epsilon",
        "epsilon (published) | v (samples well in one to five steps)",
        choices=("epsilon", "v"),
    ),
    condition_noise=Field(
        "independent",
        "independent (code) | shared (poster); ablations: none, hidden (learns without one)",
        choices=("independent", "shared", "none", "hidden"),
    ),
    condition_timesteps=Field(
        (0, 1000), "independent: s is drawn from the first to below the last", NATURAL, pair=True
    ),
    anomaly_weight=Field(1.0, "weight of the loss where an example is anomalous", POSITIVE),
    latent_scale=Field(
        1.0, "z is multiplied by it; 0: 1 / (the latents' standard deviation)", NATURAL
    ),
    **steps(epochs=4000, batch_size=32, learning_rate=2e-6 * 32, decay="constant"),
    weight_decay=Field(0.01, "of AdamW", NATURAL),
    # The published training keeps an average (0.9999), but its later scripts do not sample with it.
    ema_decay=Field(
        0.0,
        "of the averaged weights for sampling, warmed up; 0: the last weights (published)",
        SHARE,
    ),
)
RECONSTRUCTION = section(
    "reconstruction",
    "How a photo becomes its defect-free version, in segmentation training and at test.",
    training_steps=Field(50, "DDIM steps inside a segmentation training step", COUNT),
    test_steps=Field(10, "DDIM steps at test", COUNT, use=PREDICTION),
    spacing=Field(
        "leading",
        "leading (published) | trailing (starts at pure noise; for few steps)",
        choices=("leading", "trailing"),
    ),
    condition=Field(
        "clean",
        "clean (published code) | noisy (its README, for severe deformations)",
        choices=("clean", "noisy"),
    ),
    start_timestep=Field(
        500, "of the photo's own latent, where condition_noise is hidden", NATURAL
    ),
    condition_timesteps=Field(
        (400, 500), "noisy: drawn from the first to below the last", NATURAL, pair=True
    ),
    clip=Field(False, "both pictures to [0, 1] before the segmenter; published: as decoded"),
    interpolation=Field(
        (0.5,), "lambda: z_inter = lambda c + (1 - lambda) z_r, a channel each", SHARE, empty=True
    ),
)
SEGMENTATION = trained(
    "segmentation",
    "Stage 3: the segmentation U-Net on reconstruction, interpolated channel and input.",
    **levels(64, (1, 2, 4, 8, 8, 8)),
    patch_size=PATCH_SIZE,
    input=Field(
        "images",
        "images (published) | differences (learns in fewer steps)",
        choices=("images", "differences"),
    ),
    compare=Field(
        "both",
        "of features: both | distance (to those of the reconstruction) | photo",
        choices=("both", "distance", "photo"),
    ),
    focal_gamma=FOCAL_GAMMA,
    **steps(epochs=700, batch_size=32, learning_rate=1e-3, decay="steps"),
)
FEATURES = section(
    "segmentation",
    SEGMENTATION.comment,
    features=Field(
        "none",
        "of a trained network, beside the pictures: none (published) | its name",
        choices=("none", "efficientnet_lite0", "efficientnet_lite2"),
    ),
    # Its content is a part of the fingerprint.
    feature_weights=Field(
        "",
        "the network's file: .pth, or safetensors; empty: that of an installed package",
        use=RUN,
        place=True,
    ),
)
MEMORY = section(
    "memory",
    "Distances of features to those of normal photos, times the map; not in the paper, and off.",
    patches=Field(0, "patches of normal photos to compare a photo with; 0: none", NATURAL),
)
NORMAL_LEVEL = section(
    "normal_level",
    "Maps relative to their level on normal photos; not in the paper, and off.",
    floor=Field(
        0.0,
        "a pixel counts as a multiple of its level + floor; 0: as it is (published)",
        NATURAL,
        use=PREDICTION,
    ),
    power=Field(6.0, "the level is (the photos' mean of the map's power)^(1 / power)", COUNT),
)


def check(config: Config) -> None:
    """Raises ConfigError for fields that do not go together."""
    c = config.autoencoder
    if c.perceptual == "inception" and c.perceptual_file in ("", DOWNLOAD):
        raise ConfigError(
            "config.autoencoder.perceptual = 'inception' needs its weights: name their file in "
            "config.autoencoder.perceptual_file"
        )
    if c.perceptual == "lpips" and bool(c.perceptual_file) != bool(c.perceptual_heads):
        raise ConfigError(
            "config.autoencoder.perceptual = 'lpips' needs two files: VGG16's in "
            "config.autoencoder.perceptual_file, the heads' in config.autoencoder.perceptual_heads"
        )
    if config.memory.patches and not networks.memory_layers(config):
        raise ConfigError(
            f"config.memory.patches = {config.memory.patches}: needs config.segmentation.features, "
            "and a level of the segmenter 4 times smaller than the photo; memory.patches = 0: none"
        )
    width = reduction(c.patch_size, len(c.multipliers))
    if c.linear_skip and c.latent_channels > 3 * width**2:
        raise ConfigError(
            f"config.autoencoder.latent_channels = {c.latent_channels}: with linear_skip at most "
            f"{3 * width**2}, the values of a patch of {width} x {width} pixels"
        )
    c = config.reconstruction
    if len(set(c.interpolation)) < len(c.interpolation):
        raise ConfigError(
            f"config.reconstruction.interpolation = {c.interpolation}: each must be there once"
        )
    _check_timesteps(config)
    _check_that_the_denoiser_learns(config)


def _check_timesteps(config: Config) -> None:
    c, total = config.reconstruction, config.diffusion.timesteps
    if config.diffusion.beta_start > config.diffusion.beta_end:
        raise ConfigError(
            f"config.diffusion.beta_start = {config.diffusion.beta_start}: must not be above "
            f"config.diffusion.beta_end = {config.diffusion.beta_end}"
        )
    if c.start_timestep >= total:
        raise ConfigError(
            f"config.reconstruction.start_timestep = {c.start_timestep}: must lie in 0 … "
            f"{total - 1}"
        )
    for name, (first, end) in {
        "reconstruction.condition_timesteps": c.condition_timesteps,
        "diffusion.condition_timesteps": config.diffusion.condition_timesteps,
        "diffusion.trained_timesteps": config.diffusion.trained_timesteps,
    }.items():
        if not first < end <= total:
            raise ConfigError(f"config.{name} = {(first, end)}: must rise within 0 … {total}")


def _check_that_the_denoiser_learns(config: Config) -> None:
    """Raises ConfigError if sampling meets noise that the denoiser was never trained on."""
    c, first = config.reconstruction, config.diffusion.trained_timesteps[0]
    timesteps = sampled_timesteps(config)
    for field in ("training_steps", "test_steps"):
        try:
            lowest = int(sampling_timesteps(timesteps, c[field], c.spacing).min())
        except ValueError as error:
            raise ConfigError(f"config.reconstruction.{field}: {error}") from error
        if lowest < first:
            raise ConfigError(
                f"config.reconstruction.{field} = {c[field]} visits timestep {lowest}, which the "
                f"denoiser does not learn: take fewer steps, or train it with "
                f"config.diffusion.trained_timesteps = (0, {config.diffusion.timesteps})"
            )
