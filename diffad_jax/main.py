"""Flags only: ``python -m diffad_jax.main --config=configs/mvtec.py:bottle --workdir=runs/a``."""

import sys
from pathlib import Path

import absl.app
import absl.flags
import absl.logging
from ml_collections import config_flags

from diffad_jax import predict, workflow
from diffad_jax.check_config import ConfigError, check_config
from diffad_jax.checkpoint import CheckpointError
from diffad_jax.data.images import ImageError
from diffad_jax.data.layouts import DataError
from diffad_jax.data.recorded import RecordingError
from diffad_jax.evaluate import evaluate
from diffad_jax.train import TrainingError

_MODES = ("train", "evaluate", "predict", "record", "inspect")
_CONFIG = config_flags.DEFINE_config_file("config", None, "FILE or FILE:CATEGORY.")
_WORKDIR = absl.flags.DEFINE_string("workdir", None, "Checkpoints, figures and pictures go here.")
_MODE = absl.flags.DEFINE_enum(
    "mode", "train", _MODES,
    "train: what is missing, then evaluate; predict: score a folder of photos; "
    "record: write training examples to a file; inspect: report on the data.",
)  # fmt: skip
_INPUT = absl.flags.DEFINE_string("input", None, "predict: a folder of photos.")
_OUTPUT = absl.flags.DEFINE_string("output", None, "predict, inspect: a folder; record: a file.")
_NUM = absl.flags.DEFINE_integer("num_examples", 1000, "record: how many.", lower_bound=1)
absl.flags.mark_flags_as_required(["config"])

_USER_ERRORS = (
    CheckpointError, ConfigError, DataError, ImageError, RecordingError, TrainingError,
)  # fmt: skip


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise absl.app.UsageError(f"unknown argument {argv[1]!r}; every option begins with --")
    # Orbax reports every file at level INFO.
    absl.logging.set_verbosity(absl.logging.WARNING)
    config, mode = _CONFIG.value, _MODE.value
    if isinstance(config.categories, str):
        config.categories = tuple(config.categories.split(","))
    try:
        check_config(config)
        if mode == "train":
            workflow.train_and_evaluate(config, _required(_WORKDIR))
        elif mode == "evaluate":
            evaluate(config, _required(_WORKDIR))
        elif mode == "predict":
            predict.predict_folder(
                config, _required(_WORKDIR), _required(_INPUT), _required(_OUTPUT)
            )
        elif mode == "inspect":
            workflow.inspect(config, _required(_OUTPUT))
        else:
            workflow.record(config, _required(_OUTPUT), _NUM.value)
    except _USER_ERRORS as error:
        sys.exit(f"error: {error}")


def _parse(argv: list[str]) -> list[str]:
    """A misspelt field surfaces here, while the flags override the config."""
    try:
        return absl.app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, OSError) as error:
        sys.exit(f"error: the flags name a file or a config field that does not exist: {error}")


def _required(flag: absl.flags.FlagHolder) -> Path:
    if not flag.value:
        raise ConfigError(f"--mode={_MODE.value} needs --{flag.name}")
    return Path(flag.value)


if __name__ == "__main__":
    absl.app.run(main, flags_parser=_parse)
