"""What a config may say; everything wrong is found before the work begins."""

from collections.abc import Iterable, Iterator
from typing import Any

import ml_collections

from diffad_jax.errors import ConfigError
from diffad_jax.methods.diffad.ddim import sampling_timesteps
from diffad_jax.models.layers import reduction

_SECTIONS = {  # of each method's config, besides those that all have
    "diffad": (
        "synthesis",
        "autoencoder",
        "diffusion",
        "reconstruction",
        "segmentation",
        "normal_level",
    ),
    "draem": ("synthesis", "draem"),
    "riad": ("synthesis", "riad"),
    "padim": ("backbone", "padim"),
    "patchcore": ("backbone", "patchcore"),
}
_CHOICES = {
    "method": tuple(_SECTIONS),
    "data.resize": ("bilinear", "antialias"),
    "data.on_bad_image": ("fail", "skip"),
    "autoencoder.input": ("image", "augmented_image"),
    "autoencoder.perceptual": ("lpips", "inception", "none"),
    "autoencoder.decay": ("constant", "cosine", "steps"),
    "diffusion.condition_noise": ("independent", "shared", "none", "hidden"),
    "diffusion.prediction": ("epsilon", "v"),
    "diffusion.decay": ("constant", "cosine", "steps"),
    "reconstruction.spacing": ("leading", "trailing"),
    "reconstruction.condition": ("clean", "noisy"),
    "segmentation.input": ("images", "differences"),
    "segmentation.decay": ("constant", "cosine", "steps"),
    "draem.decay": ("constant", "cosine", "steps"),
    "riad.decay": ("constant", "cosine", "steps"),
    "backbone.name": ("resnet18", "wide_resnet50_2", "inception_v3"),
    "padim.reduction": ("random", "orthogonal"),
    "evaluation.mask_rule": ("full", "half", "any"),
    "evaluation.fid_dimension": (64, 192, 768, 2048),
    "training.compute_dtype": ("float32", "bfloat16"),
    "training.use": ("last", "best"),
    "training.on_nonfinite": ("stop", "skip"),
}
_AT_LEAST_ONE = (
    "image_size", "autoencoder.batch_size", "autoencoder.accumulation", "diffusion.batch_size",
    "diffusion.accumulation", "diffusion.timesteps", "reconstruction.test_steps",
    "reconstruction.training_steps", "segmentation.batch_size", "segmentation.accumulation",
    "evaluation.batch_size", "evaluation.memory_mib", "training.log_every",
    "training.checkpoint_every", "training.keep_checkpoints", "training.validation_examples",
    "draem.batch_size", "draem.accumulation", "riad.batch_size", "riad.accumulation",
    "riad.num_masks", "padim.dimensions", "patchcore.max_candidates", "patchcore.max_bank",
    "patchcore.projection", "patchcore.neighbours",
)  # fmt: skip
_SHARES = (
    "data.validation_share", "synthesis.normal_probability", "synthesis.rotation_probability",
    "synthesis.own_texture_probability", "synthesis.shade_probability",
    "evaluation.false_alarm_rate", "diffusion.ema_decay", "patchcore.bank_share",
    "autoencoder.exposure",
)  # fmt: skip


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for the first field that cannot be right.

    A comma list of categories, as a flag gives it, becomes a tuple.
    """
    names = config.categories
    names = [names] if isinstance(names, str) else names
    config.categories = tuple(n for name in names for n in name.split(",") if n)
    if not config.categories:
        raise ConfigError("config.categories is empty: name one, e.g. --config.categories=bottle")
    for field, value in _present(config, _CHOICES):
        if value not in _CHOICES[field]:
            raise ConfigError(
                f"config.{field} = {value!r}: choose one of {', '.join(map(str, _CHOICES[field]))}"
            )
    for section in _SECTIONS[config.method]:
        if section not in config:
            raise ConfigError(
                f"config.{section} is missing, which config.method = {config.method!r} needs: "
                "begin with that method's file in configs"
            )
    for field, value in _present(config, _AT_LEAST_ONE):
        if value < 1:
            raise ConfigError(f"config.{field} = {value}: must be 1 or more")
    for field, value in _present(config, _SHARES):
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"config.{field} = {value}: must lie in 0 … 1")
    for stage, c in config.items():
        if not (isinstance(c, ml_collections.ConfigDict) and "steps" in c):
            continue
        if c.steps < 0 or (c.steps == 0 and c.epochs < 1):
            raise ConfigError(
                f"config.{stage}.steps = {c.steps}: must be 1 or more, or 0 with "
                f"config.{stage}.epochs = {c.epochs} at 1 or more"
            )
    if "synthesis" in config:
        _check_synthesis(config.synthesis)
    if config.method == "diffad":
        _check_diffad(config)
    if config.method == "riad" and any(config.image_size % n for n in config.riad.square_sizes):
        raise ConfigError(
            f"config.riad.square_sizes = {tuple(config.riad.square_sizes)}: each must divide "
            f"config.image_size = {config.image_size}"
        )
    for field, value in _present(config, ("evaluation.smoothing",)):
        if value % 2 == 0:
            raise ConfigError(f"config.{field} = {value}: must be odd")
    for field, value in _present(config, ("evaluation.smoothing_power", "normal_level.power")):
        if not 1.0 <= value < float("inf"):
            raise ConfigError(f"config.{field} = {value}: must be 1 or more, and finite")


def _check_synthesis(c: ml_collections.ConfigDict) -> None:
    if not 0.0 <= c.max_light_change <= 0.5:
        raise ConfigError(
            f"config.synthesis.max_light_change = {c.max_light_change}: must lie in 0 … 0.5"
        )
    if c.own_texture_probability + c.shade_probability > 1.0:
        raise ConfigError(
            f"config.synthesis.own_texture_probability = {c.own_texture_probability} and "
            f"shade_probability = {c.shade_probability}: together at most 1"
        )
    if not 0.0 < c.shade_range[0] <= c.shade_range[1] <= 1.0:
        raise ConfigError(
            f"config.synthesis.shade_range = {tuple(c.shade_range)}: must rise within 0 … 1, "
            "above 0"
        )
    if not 0.0 < c.shade_threshold_range[0] <= c.shade_threshold_range[1]:
        raise ConfigError(
            f"config.synthesis.shade_threshold_range = {tuple(c.shade_threshold_range)}: must "
            "rise, from above 0"
        )
    # Where nothing was rotated to, the noise is 0: no shade may reach there.
    if not 0.0 <= c.shade_softness <= 2.0 * c.shade_threshold_range[0]:
        raise ConfigError(
            f"config.synthesis.shade_softness = {c.shade_softness}: must lie in 0 … "
            f"{2.0 * c.shade_threshold_range[0]}, twice the least of shade_threshold_range"
        )


def _check_diffad(config: ml_collections.ConfigDict) -> None:
    if config.autoencoder.perceptual == "inception" and not config.autoencoder.perceptual_file:
        raise ConfigError(
            "config.autoencoder.perceptual = 'inception' needs its weights: name their file in "
            "config.autoencoder.perceptual_file"
        )
    c = config.autoencoder
    side = reduction(c.patch_size, len(c.multipliers))
    if c.linear_skip and c.latent_channels > 3 * side**2:
        raise ConfigError(
            f"config.autoencoder.latent_channels = {c.latent_channels}: with linear_skip at most "
            f"{3 * side**2}, the values of a patch of {side} x {side} pixels"
        )
    if not 0.0 <= config.normal_level.floor < float("inf"):
        raise ConfigError(
            f"config.normal_level.floor = {config.normal_level.floor}: must be 0 or more, and "
            "finite; 0 leaves maps as they are"
        )
    c = config.reconstruction
    if not all(0.0 <= weight <= 1.0 for weight in c.interpolation):
        raise ConfigError(
            f"config.reconstruction.interpolation = {c.interpolation}: each must lie in 0 … 1"
        )
    if len(set(c.interpolation)) < len(c.interpolation):
        raise ConfigError(
            f"config.reconstruction.interpolation = {c.interpolation}: each must be there once"
        )
    if not 0 <= c.start_timestep < config.diffusion.timesteps:
        raise ConfigError(
            f"config.reconstruction.start_timestep = {c.start_timestep}: must lie in 0 … "
            f"{config.diffusion.timesteps - 1}"
        )
    weight = config.diffusion.anomaly_weight
    if not 0.0 < weight < float("inf"):
        raise ConfigError(
            f"config.diffusion.anomaly_weight = {weight}: must be above 0, and finite"
        )
    for field in (
        "reconstruction.condition_timesteps",
        "diffusion.condition_timesteps",
        "diffusion.trained_timesteps",
    ):
        section, _, name = field.partition(".")
        first, end = config[section][name]
        if not 0 <= first < end <= config.diffusion.timesteps:
            raise ConfigError(
                f"config.{field} = {(first, end)}: must rise within 0 … "
                f"{config.diffusion.timesteps}"
            )
    _check_that_the_denoiser_learns(config)


def _check_that_the_denoiser_learns(config: ml_collections.ConfigDict) -> None:
    """Sampling must not meet noise that training never showed to the denoiser."""
    c, first = config.reconstruction, config.diffusion.trained_timesteps[0]
    hidden = config.diffusion.condition_noise == "hidden"
    last = c.start_timestep + 1 if hidden else config.diffusion.timesteps
    for field in ("training_steps", "test_steps"):
        try:
            lowest = int(sampling_timesteps(last, c[field], c.spacing).min())
        except ValueError as error:
            raise ConfigError(f"config.reconstruction.{field}: {error}") from error
        if lowest < first:
            raise ConfigError(
                f"config.reconstruction.{field} = {c[field]} visits timestep {lowest}, which the "
                f"denoiser does not learn: take fewer steps, or train it with "
                f"config.diffusion.trained_timesteps = (0, {config.diffusion.timesteps})"
            )


def _present(config: ml_collections.ConfigDict, fields: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Those of the fields that this method's config has, with their values."""
    for field in fields:
        section, _, name = field.rpartition(".")
        if section and section not in config:
            continue
        holder = config[section] if section else config
        if name in holder:
            yield field, holder[name]
