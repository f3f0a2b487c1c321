"""What a config may say; everything wrong is found before the work begins."""

import ml_collections

from diffad_jax.errors import UserError

_CHOICES = {
    "data.resize": ("bilinear", "antialias"),
    "data.on_bad_image": ("fail", "skip"),
    "autoencoder.input": ("image", "augmented_image"),
    "autoencoder.perceptual": ("lpips", "inception", "none"),
    "autoencoder.decay": ("constant", "cosine", "steps"),
    "diffusion.condition_noise": ("independent", "shared", "none"),
    "diffusion.prediction": ("epsilon", "v"),
    "diffusion.decay": ("constant", "cosine", "steps"),
    "reconstruction.spacing": ("leading", "trailing"),
    "reconstruction.condition": ("clean", "noisy"),
    "segmentation.input": ("images", "differences"),
    "segmentation.decay": ("constant", "cosine", "steps"),
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
    "evaluation.batch_size", "training.log_every", "training.checkpoint_every",
    "training.keep_checkpoints", "training.validation_examples",
)  # fmt: skip
_SHARES = (
    "data.validation_share", "synthesis.normal_probability", "synthesis.rotation_probability",
    "evaluation.false_alarm_rate", "diffusion.ema_decay",
)  # fmt: skip


class ConfigError(UserError):
    """A config field has an impossible value; the message names the field and what would do."""


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for the first field that cannot be right.

    A comma list of categories, as a flag gives it, becomes a tuple.
    """
    names = config.categories
    names = [names] if isinstance(names, str) else names
    config.categories = tuple(n for name in names for n in name.split(",") if n)
    if not config.categories:
        raise ConfigError("config.categories is empty: name one, e.g. --config.categories=bottle")
    for field, choices in _CHOICES.items():
        if (value := _lookup(config, field)) not in choices:
            raise ConfigError(
                f"config.{field} = {value!r}: choose one of {', '.join(map(str, choices))}"
            )
    for field in _AT_LEAST_ONE:
        if (value := _lookup(config, field)) < 1:
            raise ConfigError(f"config.{field} = {value}: must be 1 or more")
    for field in _SHARES:
        if not 0.0 <= (value := _lookup(config, field)) <= 1.0:
            raise ConfigError(f"config.{field} = {value}: must lie in 0 … 1")
    for stage in ("autoencoder", "diffusion", "segmentation"):
        c = config[stage]
        if c.steps < 0 or (c.steps == 0 and c.epochs < 1):
            raise ConfigError(
                f"config.{stage}.steps = {c.steps}: must be 1 or more, or 0 with "
                f"config.{stage}.epochs = {c.epochs} at 1 or more"
            )
    _check_reconstruction(config)
    if config.autoencoder.perceptual == "inception" and not config.autoencoder.perceptual_file:
        raise ConfigError(
            "config.autoencoder.perceptual = 'inception' needs its weights: name their file in "
            "config.autoencoder.perceptual_file"
        )
    if config.evaluation.smoothing % 2 == 0:
        raise ConfigError(
            f"config.evaluation.smoothing = {config.evaluation.smoothing}: must be odd"
        )


def _check_reconstruction(config: ml_collections.ConfigDict) -> None:
    c = config.reconstruction
    if not all(0.0 <= weight <= 1.0 for weight in c.interpolation):
        raise ConfigError(
            f"config.reconstruction.interpolation = {c.interpolation}: each must lie in 0 … 1"
        )
    first, end = c.condition_timesteps
    if not 0 <= first < end <= config.diffusion.timesteps:
        raise ConfigError(
            f"config.reconstruction.condition_timesteps = {c.condition_timesteps}: must rise "
            f"within 0 … {config.diffusion.timesteps}"
        )


def _lookup(config: ml_collections.ConfigDict, field: str):
    section, _, name = field.rpartition(".")
    return (config[section] if section else config)[name]
