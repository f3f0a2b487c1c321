"""Weights of networks that others trained, from the files that a config names."""

from pathlib import Path

from diffad_jax.config.fields import DOWNLOAD, value_of
from diffad_jax.convert.backbone import installed_weights, read_backbone
from diffad_jax.convert.perceptual import read_lpips
from diffad_jax.errors import ConfigError
from diffad_jax.methods.contract import Config, Pretrained
from diffad_jax.methods.train_state import Weights
from diffad_jax.models.lpips import Lpips
from diffad_jax.runtime import download


def load(wanted: Pretrained | None, config: Config) -> Weights:
    """{the network's name: its ``params``} as NumPy arrays; {} where none is wanted.

    Raises:
      ConfigError: the config's file is missing, cannot be fetched or holds something else; or the
        config names none, and the package with the weights is not installed.
    """
    if wanted is None:
        return {}
    files = _files(wanted, config)
    try:
        if isinstance(wanted.network, Lpips):
            return {wanted.name: read_lpips(*files, wanted.network)}
        path = files[0] or installed_weights(wanted.package)
        return {wanted.name: read_backbone(path, wanted.network)}
    except ValueError as error:
        raise ConfigError(f"config.{wanted.fields[0]}: {error}") from error


def _files(wanted: Pretrained, config: Config) -> list[str | Path]:
    """The file that each field names; fetched where the field is DOWNLOAD."""
    files: list[str | Path] = [value_of(config, field) for field in wanted.fields]
    for i, field in enumerate(wanted.fields):
        if files[i] != DOWNLOAD:
            continue
        try:
            files[i] = download.fetch(wanted.published[i])
        except download.DownloadError as error:
            raise ConfigError(
                f"config.{field}: {error}, or name its place with --config.{field}=FILE"
            ) from error
    return files
