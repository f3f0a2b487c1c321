"""What ``--mode`` can be: what to call, and with which flags."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from absl import flags

from diffad_jax.commands import exported_folder, proportions
from diffad_jax.commands.adopt import adopt
from diffad_jax.commands.benchmark import benchmark
from diffad_jax.commands.evaluate import evaluate
from diffad_jax.commands.inspect import inspect
from diffad_jax.commands.predict import How, merge, predict_photos
from diffad_jax.commands.predict_products import predict_products
from diffad_jax.commands.record import record
from diffad_jax.commands.serve import serve
from diffad_jax.commands.train import train_and_evaluate
from diffad_jax.config import stored
from diffad_jax.convert.importer import import_file
from diffad_jax.errors import ConfigError
from diffad_jax.export import exporter, registry
from diffad_jax.inference import shards
from diffad_jax.methods.registry import get_method, sections
from diffad_jax.runtime import console, mirror, storage
from diffad_jax.training.profiling import parse_steps


class Mode(NamedTuple):
    run: Callable[..., None]  # called with the config and the values of these flags, in this order
    needs: tuple[flags.FlagHolder, ...]
    takes: tuple[flags.FlagHolder, ...]
    help: str

    def __call__(self, config: ml_collections.ConfigDict, name: str) -> None:
        """Runs the mode.

        Raises:
          ConfigError: a flag that it needs was not given, or the config would need other weights.
        """
        if any(flag.name == "workdir" for flag in self.needs):
            workdir = _given(_WORKDIR, name)
            if registry.exported(workdir):
                _refuse_exported(workdir, name)
            elif name != "train":
                proportions.settle(config, workdir)
                _compare_with_trained(config, workdir)
        self.run(config, *(_given(f, name) for f in self.needs), *(f.value for f in self.takes))


def _predict(
    config: ml_collections.ConfigDict, workdir: Path, source: Path, output: Path, *how: Any
) -> None:
    """Several categories are told apart."""
    if registry.exported(workdir):
        exported_folder.predict(config, workdir, source, output, How(*how))
        return
    run = predict_products if len(config.categories) > 1 else predict_photos
    run(config, workdir, source, output, How(*how))


def _import(config: ml_collections.ConfigDict, workdir: Path, *files: Path | str) -> None:
    for name in map(str, files):
        if storage.is_remote(name):
            raise ConfigError(f"--input={name}: --mode=import reads files of this machine: copy it")
    import_file(config, workdir, *files)
    (category,) = config.categories
    stored.write(config, sections(get_method(config)), workdir / category, category)


def _refuse_exported(folder: Path, mode: str) -> None:
    if mode not in ("predict", "serve"):
        raise ConfigError(
            f"--workdir={folder} is an exported folder, for --mode=predict and --mode=serve: "
            f"--mode={mode} needs the work directory that it came from"
        )


def _compare_with_trained(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Names what the config says otherwise than the one that its categories were trained with."""
    for category in config.categories:
        stored.refuse_other_method(config, workdir / category)
        locking, free = stored.differences(config, sections(get_method(config)), workdir / category)
        if locking:
            raise ConfigError(
                f"{workdir / category} was trained otherwise:\n  "
                + "\n  ".join(locking)
                + "\nLeave these flags and --config away: --workdir remembers its config. Or train "
                "again, into another --workdir"
            )
        for line in free:
            console.note(f"{category}: {line}")


class _Parser(flags.ArgumentParser):
    """Of a flag whose value is what a function makes of its text."""

    def __init__(self, parse: Callable[[str], Any]):
        super().__init__()
        self.parse = parse


def _define_path(name: str, text: str) -> flags.FlagHolder[Path]:
    return flags.DEFINE(_Parser(_path), name, None, text)


def _path(text: str) -> Path:
    if storage.is_remote(text):
        raise ValueError("it must be a folder of this machine: copy what the bucket holds")
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError("no home folder is known for it: name the whole path")
    return Path(path)


def _source(text: str) -> Path | str:
    return text if storage.is_remote(text) else _path(text)


def _workdir(text: str) -> Path | str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is no UTF-8, which checkpoints need: choose another name") from None
    return _source(text)


_WORKDIR = flags.DEFINE(
    _Parser(_workdir),
    "workdir",
    None,
    "Checkpoints, metrics and pictures go here: a folder, also in gs:// or s3://.",
)
_CATEGORY = flags.DEFINE_string(
    "category", None, "adopt: the product, a folder below config.data.root."
)
_INPUT = flags.DEFINE(
    _Parser(_source),
    "input",
    None,
    "predict: a folder or a glob of photos, also gs:// or s3://, or - for a list on stdin; import: "
    "a file.",
)
_SECOND_INPUT = _define_path("second_input", "import: the other one of DRAEM's two files.")
_OUTPUT = flags.DEFINE(
    _Parser(_source), "output", None, "record: a file; else a folder; also in gs:// or s3://."
)
_NUM = flags.DEFINE_integer("num_examples", 1000, "record: how many.", lower_bound=1)
_RUNS = flags.DEFINE_integer("num_runs", 50, "benchmark: timed calls.", lower_bound=1)
_FORMAT = flags.DEFINE_enum("format", None, exporter.NAMES, "export: as what.")
_QUANTIZE = flags.DEFINE_enum(
    "quantize", None, ["int8"], "export, onnx and openvino: convolutions in 8 bits, and a report."
)
_MAX_CHANGED = flags.DEFINE_float(
    "max_changed", 0.01, "export: the largest share of verdicts that --quantize may change.", 0, 1
)
_COMPARE = flags.DEFINE_list(
    "compare", [], "evaluate: with these workdirs, and with paper; benchmark: exported folders."
)
_PROFILE = flags.DEFINE(
    _Parser(parse_steps), "profile", None, "FROM:TO, train: traces these steps of each stage."
)
_TILE = flags.DEFINE_bool(
    "tile", False, "predict: cut photos into windows at their own resolution, not resize them."
)
_SAVE = flags.DEFINE_list(
    "save", ["overlay"], "predict: pictures, of overlay, heat_map, reconstruction, mask."
)
_THRESHOLD = flags.DEFINE_float(
    "threshold", None, "predict: in place of the one that held-out photos give (for one by rate: "
    "--config.evaluation.false_alarm_rate)."
)  # fmt: skip
_SHARD = flags.DEFINE(
    _Parser(shards.parse),
    "shard",
    None,
    "I/N, predict: the I-th of N shares of the photos, from 0 on; merge joins their tables.",
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "predict, merge, record, inspect, evaluate, benchmark: replace results that are there.",
)
_RETRAIN = flags.DEFINE_bool(
    "retrain", False, "train: where photos or pretrained weights have changed, train anew."
)
_FINETUNE = flags.DEFINE_bool(
    "finetune", False, "train: as --retrain, from the present weights on; for the steps configured."
)
_RECALIBRATE = flags.DEFINE_bool(
    "recalibrate", False, "train: photos that were added choose the threshold, without training."
)
_CORRECTIONS = _define_path(
    "corrections",
    "train: photos that inspectors accepted in this work directory are trained on, too; evaluate: "
    "what they corrected there takes the place of the test photos.",
)
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "serve: an address of this machine; others than this one need a token."
)
_PORT = flags.DEFINE_integer("port", 8000, "serve: 0 takes a free one.", 0, 65535)
_WATCH = _define_path("watch", "serve: a folder of this machine, whose new photos are inspected.")
_WEBHOOK = flags.DEFINE_string(
    "webhook", None, "serve: an address that is told of each anomalous photo."
)

MODES = {
    "train": Mode(
        train_and_evaluate,
        (_WORKDIR,),
        (_PROFILE, _RETRAIN, _FINETUNE, _RECALIBRATE, _CORRECTIONS),
        "what is missing, then evaluate",
    ),
    "adopt": Mode(
        adopt, (_WORKDIR, _CATEGORY), (), "take in a product by shared networks, without training"
    ),
    "evaluate": Mode(
        evaluate,
        (_WORKDIR,),
        (_COMPARE, _OVERWRITE, _CORRECTIONS),
        "metrics, tables and reports",
    ),
    "predict": Mode(
        _predict,
        (_WORKDIR, _INPUT, _OUTPUT),
        (_TILE, _SAVE, _THRESHOLD, _OVERWRITE, _SHARD),
        "score photos",
    ),
    "merge": Mode(merge, (_OUTPUT,), (_OVERWRITE,), "one table of what predict --shard wrote"),
    "serve": Mode(
        serve, (_WORKDIR,), (_HOST, _PORT, _WATCH, _WEBHOOK), "inspection page and HTTP API"
    ),
    "benchmark": Mode(
        benchmark,
        (_WORKDIR,),
        (_RUNS, _OVERWRITE, _COMPARE),
        "latency and throughput of the detector",
    ),
    "inspect": Mode(inspect, (_OUTPUT,), (_OVERWRITE,), "report on the data"),
    "record": Mode(record, (_OUTPUT, _NUM), (_OVERWRITE,), "write training examples to a file"),
    "import": Mode(
        _import, (_WORKDIR, _INPUT), (_SECOND_INPUT,), "published weights become trained stages"
    ),
    "export": Mode(
        exporter.export,
        (_WORKDIR, _OUTPUT, _FORMAT),
        (_QUANTIZE, _MAX_CHANGED),
        "to run elsewhere",
    ),
}


def bring_here(mirrors: mirror.Mirrors, mode: str) -> None:
    """Puts local copies in the place of the flags' folders in object storage.

    Raises:
      ConfigError: the mode has no use for a copy.
      mirror.MirrorError: the storage cannot be reached, or refuses.
    """
    for flag in (_WORKDIR, _OUTPUT):
        if storage.is_remote(str(flag.value)):
            if mode == "serve":
                raise ConfigError(
                    f"--{flag.name}={flag.value}: --mode=serve keeps corrections as they come, in "
                    "a folder of this machine: copy it"
                )
            flags.FLAGS[flag.name].value = mirrors.local_copy(flag.value)


def _given(flag: flags.FlagHolder, mode: str) -> Any:
    if not flag.value:
        raise ConfigError(f"--mode={mode} needs --{flag.name}")
    return flag.value
