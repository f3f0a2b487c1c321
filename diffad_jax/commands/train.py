"""Train what is missing, then evaluate: category by category."""

import functools
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import ml_collections
import numpy as np

from diffad_jax.commands.evaluate import evaluate, load_inception
from diffad_jax.config import stored
from diffad_jax.convert import pretrained
from diffad_jax.data import advice, images, inspect_text, layouts, recorded, split, toy
from diffad_jax.data import inspect as data_inspect
from diffad_jax.data.split import Split
from diffad_jax.errors import ConfigError
from diffad_jax.evaluation import cost
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.registry import get_method, sections
from diffad_jax.methods.sizes import check_sizes
from diffad_jax.methods.train_state import Params
from diffad_jax.runtime import console, files, lock, sharding
from diffad_jax.training import checkpoint, fit, loop
from diffad_jax.training.fingerprint import describe_photos
from diffad_jax.training.held_out import load_split
from diffad_jax.training.profiling import Steps
from diffad_jax.types import Batch

logger = logging.getLogger(__name__)


def prepare(config: ml_collections.ConfigDict) -> None:
    """Looks at every category before hours are spent on the first; writes the toy category.

    Raises:
      layouts.DataError: a category is missing or empty.
    """
    _write_toy(config)
    c = config.data
    for category in config.categories:
        records = layouts.read_category(c.root, category, c.layout)
        normal = [r for r in records if r.split == "train"]
        held_out = layouts.split_validation(normal, c.validation_share, config.seed)[1]
        rate = config.evaluation.false_alarm_rate
        for sentence in advice.few_photos(len(normal), len(held_out), rate):
            logger.warning("%s: %s", category, sentence)


def _write_toy(config: ml_collections.ConfigDict) -> None:
    if config.data.layout == "toy":
        toy.write_category(config.data.root, seed=0, image_size=config.image_size)


def train_and_evaluate(
    config: ml_collections.ConfigDict, workdir: Path, profile: Steps | None
) -> None:
    """Trains the stages that are not finished, evaluates, and prints one table.

    Several processes only train: the others would wait for the one that fits and evaluates.
    ``profile`` names steps to trace, see ``profiling``.

    Raises:
      lock.LockedError: another training writes to a category's folder.
    """
    prepare(config)
    _check(config, workdir)
    for category in config.categories:
        with lock.hold(workdir / category):
            train_category(config, workdir / category, category, profile)
    if jax.process_count() == 1:
        evaluate(config, workdir)
    elif jax.process_index() == 0:
        console.note("trained by several processes; to evaluate, start a single one")


def _check(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Raises UserError for what would end the work later, perhaps after hours."""
    frozen_config = ml_collections.FrozenConfigDict(config)
    stages = get_method(config).stages(frozen_config)
    mesh = sharding.make_mesh(frozen_config)
    for stage in stages:
        if not stage.fit:
            size = stage.settings(frozen_config).batch_size
            sharding.check_batch_size(mesh, size, f"config.{stage.section}.batch_size")
    folders = [workdir / category for category in config.categories]
    for folder in folders:
        _refuse_other_work(config, folder)
    if not all((folder / stage.name).is_dir() for folder in folders for stage in stages):
        check_sizes(config)
    if config.data.recorded:
        recorded.Recording(config.data.recorded)  # it is there, and whole
    load_inception(config)  # for evaluation, at the end


def _refuse_other_work(config: ml_collections.ConfigDict, directory: Path) -> None:
    """Raises UserError if a category's folder holds weights of another method or config."""
    frozen_config = ml_collections.FrozenConfigDict(config)
    stored.refuse_other_method(config, directory)
    for stage in get_method(config).stages(frozen_config):
        checkpoint.refuse_other_config(stage, frozen_config, directory)


def train_category(
    config: ml_collections.ConfigDict, directory: Path, category: str, profile: Steps | None
) -> None:
    """Trains or fits the stages of ``config.method``; a finished one is loaded instead.

    Metrics on held-out photos, seconds and memory go to ``stages.json``.
    """
    frozen_config = ml_collections.FrozenConfigDict(config)
    _refuse_other_work(config, directory)
    if jax.process_index() == 0:
        stored.write(config, sections(get_method(config)), directory, category)
    photos = load_split(frozen_config, directory, category)
    report_file = directory / "stages.json"
    report = files.read_json(report_file)
    weights: dict = {}
    for stage in get_method(config).stages(frozen_config):
        started = time.monotonic()
        title = f"{category}/{stage.name}"
        if stage.fit:
            if weights and jax.process_count() > 1:
                continue  # left to the one process that evaluates
            trained, metrics = _fit(stage, frozen_config, weights, directory, photos), {}
        else:
            weights[stage.name], metrics, trained = _train(
                stage, frozen_config, weights, directory, category, photos, profile
            )
        if jax.process_index() != 0:
            continue
        seconds = time.monotonic() - started
        if trained or stage.name not in report:  # it was stopped, or killed, in between
            spent = {
                "seconds_this_run": round(seconds, 1),
                "peak_memory_mib": round(cost.peak_memory_mib()),
            }
            report[stage.name] = (spent if trained else {}) | metrics
            files.write_whole(report_file, json.dumps(report, indent=2) + "\n")
        if trained:
            shown = ", ".join(f"{k} {v:.4g}" for k, v in metrics.items())
            seen = "held-out normal" if photos.held_out else "training"
            found = f"{seen} photos: {shown}" if metrics else f"fitted in {seconds:.0f} s"
            console.note(f"{title}: {found}")
        else:
            console.note(f"{title}: finished before")


def _train(
    stage: Stage,
    config: ml_collections.FrozenConfigDict,
    weights: dict[str, Params],
    directory: Path,
    category: str,
    photos: Split,
    profile: Steps | None,
) -> tuple[Params, dict[str, float], bool]:
    """``loop.train_stage`` with this category's examples."""
    recording = f"; {describe_photos([config.data.recorded])}" if config.data.recorded else ""
    data = loop.Data(
        batches=functools.partial(process_batches, config, category, photos),
        held_out=lambda: next(
            _batches(config, category, photos, "validation", config.training.validation_examples)
        ),
        photos=photos.describe() + recording,
    )
    settled = loop.with_steps(
        stage, config, directory, lambda: len(photos.train) + len(photos.held_out)
    )
    earlier_weights = weights | pretrained.load(stage.pretrained(config), config)
    title = f"{category}/{stage.name}"
    return loop.train_stage(stage, settled, earlier_weights, directory, data, title, profile)


def _fit(
    stage: Stage,
    config: ml_collections.FrozenConfigDict,
    weights: dict[str, Params],
    directory: Path,
    photos: Split,
) -> bool:
    """``fit.fit_stage`` with this category's photos."""
    c, size = config.data, config.evaluation.batch_size

    def batches() -> Iterator[np.ndarray]:
        files = split.paths(config, photos.train)
        return images.read_batches(files, size, config.image_size, c.resize, c.on_bad_image)

    return fit.fit_stage(
        stage,
        config,
        weights,
        lambda: pretrained.load(stage.pretrained(config), config),
        directory,
        batches,
        photos.describe(),
    )


def record(config: ml_collections.ConfigDict, output: Path, num_examples: int) -> None:
    """Writes training examples, and ``training.validation_examples`` held-out ones, to a file.

    Raises:
      layouts.DataError: several categories are configured, or the category is missing.
    """
    if len(config.categories) != 1:
        raise layouts.DataError(
            f"a recording holds one category: --config.categories={config.categories[0]}"
        )
    _require_synthesis(config)
    prepare(config)
    category = config.categories[0]
    counts = {"train": num_examples, "validation": config.training.validation_examples}
    config.data.recorded = ""  # from the photos, whatever training would use
    photos = split.draw(config, category)
    streams = {s: (n, _batches(config, category, photos, s, 1)) for s, n in counts.items()}
    recorded.write(config, category, output, photos, streams)
    console.say(f"{num_examples} examples in {output}, {output.stat().st_size / 2**20:.1f} MiB")


def inspect(config: ml_collections.ConfigDict, output: Path) -> None:
    """Prints what each category holds; writes its summary and contact sheet below ``output``.

    Raises:
      layouts.DataError: a category is missing or empty.
    """
    _require_synthesis(config)
    _write_toy(config)
    for category in config.categories:
        summary = data_inspect.inspect_category(config, category, output / category)
        console.say(inspect_text.as_text(summary))
        console.say(f"{category}: summary.json and contact_sheet.png are in {output / category}\n")


def _require_synthesis(config: ml_collections.ConfigDict) -> None:
    if not get_method(config).needs_synthesis:
        raise ConfigError(
            f"config.method = {config.method!r} learns without synthetic anomalies, so its config "
            "says nothing of them: take another one, such as configs/mvtec.py"
        )


def process_batches(
    config: ml_collections.ConfigDict, category: str, photos: Split, start: int, batch_size: int
) -> Iterator[Batch]:
    """This process's share of the training batches from step ``start`` on."""
    return _batches(
        config,
        category,
        photos,
        "train",
        batch_size,
        start_step=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _batches(
    config: ml_collections.ConfigDict,
    category: str,
    photos: Split,
    part: str,
    batch_size: int,
    **share: int,
) -> Iterator[Batch]:
    if config.data.recorded:
        return recorded.batches(config, category, split=part, batch_size=batch_size, **share)
    # Imported here: evaluation and recorded training run where TensorFlow is not installed.
    from diffad_jax.data import pipeline

    # Where none is held out, a stage is looked at on the photos that it trains on.
    held_out = photos.held_out or photos.train
    files = split.paths(config, photos.train if part == "train" else held_out)
    return pipeline.batches(
        config, category, split=part, batch_size=batch_size, files=files, **share
    )
