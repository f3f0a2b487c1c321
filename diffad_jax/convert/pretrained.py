"""Weights of networks that others trained, from the files that a config names."""

from diffad_jax.convert.backbone import installed_weights, read_backbone
from diffad_jax.convert.perceptual import read_lpips
from diffad_jax.errors import ConfigError
from diffad_jax.methods.contract import Config, Pretrained
from diffad_jax.methods.train_state import Weights
from diffad_jax.models.lpips import Lpips


def load(wanted: Pretrained | None, config: Config) -> Weights:
    """{the network's name: its ``params``} as NumPy arrays; {} where none is wanted.

    Raises:
      ConfigError: the file that the config names is missing or holds something else; it names
        none, and the package that carries the weights is not installed.
    """
    if wanted is None:
        return {}
    sections = (field.split(".") for field in wanted.fields)
    files = [config[section][field] for section, field in sections]
    try:
        if isinstance(wanted.network, Lpips):
            return {wanted.name: read_lpips(*files, wanted.network)}
        path = files[0] or installed_weights(wanted.package)
        return {wanted.name: read_backbone(path, wanted.network)}
    except ValueError as error:
        raise ConfigError(f"config.{wanted.fields[0]}: {error}") from error
