"""What ``--mode`` can be: what to call, and with which flags."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from absl import flags

from diffad_jax import workflow
from diffad_jax.check_config import ConfigError
from diffad_jax.convert.importer import import_file
from diffad_jax.evaluate import Compare, evaluate
from diffad_jax.export import exporter
from diffad_jax.predict import predict_folder


class Mode(NamedTuple):
    run: Callable[..., None]  # called with the config and the values of these flags, in this order
    needs: tuple[flags.FlagHolder, ...]
    takes: tuple[flags.FlagHolder, ...]
    help: str

    def __call__(self, config: ml_collections.ConfigDict, name: str) -> None:
        """Raises ConfigError, naming the mode, if a flag that it needs was not given."""
        self.run(config, *(_given(f, name) for f in self.needs), *(f.value for f in self.takes))


class _PathParser(flags.ArgumentParser):
    def parse(self, argument: str) -> Path:
        return Path(argument)


def _define_path(name: str, text: str) -> flags.FlagHolder[Path]:
    return flags.DEFINE(_PathParser(), name, None, text)


_WORKDIR = _define_path("workdir", "Checkpoints, figures and pictures go here.")
_INPUT = _define_path("input", "predict: a folder of photos; import: a file.")
_OUTPUT = _define_path("output", "record: a file; else a folder.")
_NUM = flags.DEFINE_integer("num_examples", 1000, "record: how many.", lower_bound=1)
_FORMAT = flags.DEFINE_enum("format", None, exporter.NAMES, "export: as what.")
_COMPARE = flags.DEFINE_enum_class("compare", Compare.NOTHING, Compare, "evaluate: with whom.")

MODES = {
    "train": Mode(workflow.train_and_evaluate, (_WORKDIR,), (), "what is missing, then evaluate"),
    "evaluate": Mode(evaluate, (_WORKDIR,), (_COMPARE,), "figures, tables and reports"),
    "predict": Mode(predict_folder, (_WORKDIR, _INPUT, _OUTPUT), (), "score a folder of photos"),
    "inspect": Mode(workflow.inspect, (_OUTPUT,), (), "report on the data"),
    "record": Mode(workflow.record, (_OUTPUT, _NUM), (), "write training examples to a file"),
    "import": Mode(import_file, (_WORKDIR, _INPUT), (), "published weights become trained stages"),
    "export": Mode(exporter.export, (_WORKDIR, _OUTPUT, _FORMAT), (), "to run elsewhere"),
}


def _given(flag: flags.FlagHolder, mode: str) -> Any:
    if not flag.value:
        raise ConfigError(f"--mode={mode} needs --{flag.name}")
    return flag.value
