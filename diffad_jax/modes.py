"""What ``--mode`` can be: what to call, and with which flags."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from absl import flags

from diffad_jax import workflow
from diffad_jax.check_config import ConfigError
from diffad_jax.convert.exporter import export_weights
from diffad_jax.convert.importer import import_file
from diffad_jax.evaluate import evaluate
from diffad_jax.predict import predict_folder
from diffad_jax.profiling import parse_steps
from diffad_jax.speed import benchmark


class Mode(NamedTuple):
    run: Callable[..., None]  # called with the config and the values of these flags, in this order
    needs: tuple[flags.FlagHolder, ...]
    takes: tuple[flags.FlagHolder, ...]
    help: str

    def __call__(self, config: ml_collections.ConfigDict, name: str) -> None:
        """Raises ConfigError, naming the mode, if a flag that it needs was not given."""
        self.run(config, *(_given(f, name) for f in self.needs), *(f.value for f in self.takes))


class _Parser(flags.ArgumentParser):
    """Of a flag whose value is what a function makes of its text."""

    def __init__(self, parse: Callable[[str], Any]):
        super().__init__()
        self.parse = parse


def _define_path(name: str, text: str) -> flags.FlagHolder[Path]:
    return flags.DEFINE(_Parser(Path), name, None, text)


_WORKDIR = _define_path("workdir", "Checkpoints, figures and pictures go here.")
_INPUT = _define_path("input", "predict: a folder of photos; import: a file.")
_OUTPUT = _define_path("output", "record: a file; else a folder.")
_NUM = flags.DEFINE_integer("num_examples", 1000, "record: how many.", lower_bound=1)
_RUNS = flags.DEFINE_integer("num_runs", 50, "benchmark: timed calls.", lower_bound=1)
_COMPARE = flags.DEFINE_list("compare", [], "evaluate: with these workdirs, and with paper.")
_PROFILE = flags.DEFINE(
    _Parser(parse_steps), "profile", None, "FROM:TO, train: traces these steps of each stage."
)

MODES = {
    "train": Mode(
        workflow.train_and_evaluate, (_WORKDIR,), (_PROFILE,), "what is missing, then evaluate"
    ),
    "evaluate": Mode(evaluate, (_WORKDIR,), (_COMPARE,), "figures, tables and reports"),
    "predict": Mode(predict_folder, (_WORKDIR, _INPUT, _OUTPUT), (), "score a folder of photos"),
    "benchmark": Mode(benchmark, (_WORKDIR,), (_RUNS,), "latency and throughput of the detector"),
    "inspect": Mode(workflow.inspect, (_OUTPUT,), (), "report on the data"),
    "record": Mode(workflow.record, (_OUTPUT, _NUM), (), "write training examples to a file"),
    "import": Mode(import_file, (_WORKDIR, _INPUT), (), "published weights become trained stages"),
    "export": Mode(export_weights, (_WORKDIR, _OUTPUT), (), "ours under the published names"),
}


def _given(flag: flags.FlagHolder, mode: str) -> Any:
    if not flag.value:
        raise ConfigError(f"--mode={mode} needs --{flag.name}")
    return flag.value
