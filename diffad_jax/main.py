"""Flags only: ``python -m diffad_jax.main --config=configs/mvtec.py:bottle --workdir=runs/a``."""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from diffad_jax import processes, workflow
from diffad_jax.check_config import ConfigError, check_config
from diffad_jax.checkpoint import CheckpointError
from diffad_jax.convert.errors import ConvertError
from diffad_jax.convert.exporter import export_weights
from diffad_jax.convert.importer import import_file
from diffad_jax.data.images import ImageError
from diffad_jax.data.layouts import DataError
from diffad_jax.data.recorded import RecordingError
from diffad_jax.evaluate import Compare, evaluate
from diffad_jax.predict import predict_folder
from diffad_jax.train import TrainingError

_CONFIG = config_flags.DEFINE_config_file("config", None, "FILE or FILE:CATEGORY.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Checkpoints, figures and pictures go here.")
_INPUT = flags.DEFINE_string("input", None, "predict: a folder of photos; import: a file.")
_OUTPUT = flags.DEFINE_string("output", None, "record: a file; else a folder.")
_NUM = flags.DEFINE_integer("num_examples", 1000, "record: how many.", lower_bound=1)
_COMPARE = flags.DEFINE_enum_class("compare", Compare.NOTHING, Compare, "evaluate: with whom.")
_MODES = {  # mode -> what to call with the config, and the flags that it needs
    "train": (workflow.train_and_evaluate, _WORKDIR),
    "evaluate": (evaluate, _WORKDIR, _COMPARE),
    "predict": (predict_folder, _WORKDIR, _INPUT, _OUTPUT),
    "inspect": (workflow.inspect, _OUTPUT),
    "record": (workflow.record, _OUTPUT, _NUM),
    "import": (import_file, _WORKDIR, _INPUT),
    "export": (export_weights, _WORKDIR, _OUTPUT),
}
_MODE = flags.DEFINE_enum(
    "mode", "train", list(_MODES),
    "train: what is missing, then evaluate; predict: score a folder of photos; inspect: report on "
    "the data; record: write training examples to a file; import: published weights become trained "
    "stages; export: ours under the published names.",
)  # fmt: skip
flags.mark_flags_as_required(["config"])

_USER_ERRORS = (CheckpointError, ConfigError, ConvertError, DataError, ImageError,
                RecordingError, TrainingError)  # fmt: skip


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; every option begins with --")
    # Orbax reports every file at level INFO.
    logging.set_verbosity(logging.WARNING)
    config = _CONFIG.value
    processes.start()
    try:
        check_config(config)
        run, *needed = _MODES[_MODE.value]
        run(config, *map(_required, needed))
    except _USER_ERRORS as error:
        sys.exit(f"error: {error}")


def _parse(argv: list[str]) -> list[str]:
    """A misspelt field surfaces here, while the flags override the config."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, OSError) as error:
        sys.exit(f"error: the flags name a file or a config field that does not exist: {error}")


def _required(flag: flags.FlagHolder) -> Path | int | Compare:
    if not flag.value:
        raise ConfigError(f"--mode={_MODE.value} needs --{flag.name}")
    return Path(flag.value) if isinstance(flag.value, str) else flag.value


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
