"""Flags only: ``python -m diffad_jax.main --config=configs/mvtec.py:bottle --workdir=runs/a``."""

import sys
from pathlib import Path

import absl.app
import absl.flags
import absl.logging
from ml_collections import config_flags

from diffad_jax import workflow
from diffad_jax.check_config import ConfigError, check_config
from diffad_jax.checkpoint import CheckpointError
from diffad_jax.convert.errors import ConvertError
from diffad_jax.convert.exporter import export_weights
from diffad_jax.convert.importer import import_file
from diffad_jax.data.images import ImageError
from diffad_jax.data.layouts import DataError
from diffad_jax.data.recorded import RecordingError
from diffad_jax.evaluate import evaluate
from diffad_jax.predict import predict_folder
from diffad_jax.train import TrainingError

_CONFIG = config_flags.DEFINE_config_file("config", None, "FILE or FILE:CATEGORY.")
_WORKDIR = absl.flags.DEFINE_string("workdir", None, "Checkpoints, figures and pictures go here.")
_INPUT = absl.flags.DEFINE_string("input", None, "predict: a folder of photos; import: a file.")
_OUTPUT = absl.flags.DEFINE_string("output", None, "record: a file; else a folder.")
_NUM = absl.flags.DEFINE_integer("num_examples", 1000, "record: how many.", lower_bound=1)
_MODES = {  # mode -> what to call with the config, and the flags that it needs
    "train": (workflow.train_and_evaluate, _WORKDIR),
    "evaluate": (evaluate, _WORKDIR),
    "predict": (predict_folder, _WORKDIR, _INPUT, _OUTPUT),
    "inspect": (workflow.inspect, _OUTPUT),
    "record": (workflow.record, _OUTPUT, _NUM),
    "import": (import_file, _WORKDIR, _INPUT),
    "export": (export_weights, _WORKDIR, _OUTPUT),
}
_MODE = absl.flags.DEFINE_enum(
    "mode", "train", list(_MODES),
    "train: what is missing, then evaluate; predict: score a folder of photos; inspect: report on "
    "the data; record: write training examples to a file; import: published weights become trained "
    "stages; export: ours under the published names.",
)  # fmt: skip
absl.flags.mark_flags_as_required(["config"])

_USER_ERRORS = (CheckpointError, ConfigError, ConvertError, DataError, ImageError,
                RecordingError, TrainingError)  # fmt: skip


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise absl.app.UsageError(f"unknown argument {argv[1]!r}; every option begins with --")
    # Orbax reports every file at level INFO.
    absl.logging.set_verbosity(absl.logging.WARNING)
    config = _CONFIG.value
    try:
        check_config(config)
        run, *flags = _MODES[_MODE.value]
        run(config, *map(_required, flags))
    except _USER_ERRORS as error:
        sys.exit(f"error: {error}")


def _parse(argv: list[str]) -> list[str]:
    """A misspelt field surfaces here, while the flags override the config."""
    try:
        return absl.app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, OSError) as error:
        sys.exit(f"error: the flags name a file or a config field that does not exist: {error}")


def _required(flag: absl.flags.FlagHolder) -> Path | int:
    if not flag.value:
        raise ConfigError(f"--mode={_MODE.value} needs --{flag.name}")
    return Path(flag.value) if isinstance(flag.value, str) else flag.value


if __name__ == "__main__":
    absl.app.run(main, flags_parser=_parse)
