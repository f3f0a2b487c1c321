"""Train what is missing, then evaluate: category by category, or all with the same networks."""

import contextlib
import functools
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from diffad_jax.commands import proportions
from diffad_jax.commands.evaluate import evaluate, load_inception
from diffad_jax.config import stored
from diffad_jax.convert import pretrained
from diffad_jax.data import bit_depth, corrections, examples, images, recorded, split
from diffad_jax.data.split import Split
from diffad_jax.errors import ConfigError
from diffad_jax.evaluation import cost
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.registry import SHARED, get_method, sections, stage_folder
from diffad_jax.methods.sizes import check_sizes
from diffad_jax.methods.train_state import Weights
from diffad_jax.runtime import console, files, lock, sharding
from diffad_jax.training import checkpoint, fit, loop, outlook, shared
from diffad_jax.training.data import Data, Outcome
from diffad_jax.training.fingerprint import describe_photos, whole
from diffad_jax.training.held_out import settle
from diffad_jax.training.profiling import Steps
from diffad_jax.types import Batch


class How(NamedTuple):
    """What is to become of finished work where photos were added; see ``held_out.settle``."""

    retrain: bool = False
    finetune: bool = False
    recalibrate: bool = False
    corrections_of: Path | None = None


def train_and_evaluate(
    config: ml_collections.ConfigDict,
    workdir: Path,
    profile: Steps | None,
    retrain: bool = False,
    finetune: bool = False,
    recalibrate: bool = False,
    corrections_of: Path | None = None,
) -> None:
    """Trains the stages that are not finished, evaluates, and prints one table.

    ``profile`` names steps to trace, see ``profiling``; ``retrain``, ``finetune`` and
    ``recalibrate`` are for photos that were added since, see ``held_out.settle``; good photos that
    inspectors accepted in the work directory ``corrections_of`` are trained on as well.

    Raises:
      lock.LockedError: another training writes to a category's folder.
    """
    examples.prepare(config)
    proportions.settle(config, workdir)
    _check(config, workdir)
    how = How(retrain, finetune, recalibrate, corrections_of)
    if config.shared:
        train_shared(config, workdir, profile, how)
    for i, category in enumerate(() if config.shared else config.categories, start=1):
        with lock.hold(workdir / category):
            train_category(
                config, workdir / category, category, profile, *how,
                categories_after=len(config.categories) - i,
            )  # fmt: skip
    evaluate(config, workdir, waits=True)


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
    places = (
        stage_folder(stage, frozen_config, folder) / stage.name
        for folder in folders
        for stage in stages
    )
    if not all(place.is_dir() for place in places):
        check_sizes(config)
    if config.data.recorded:
        recorded.Recording(config.data.recorded)  # it is there, and whole
    load_inception(config)  # for evaluation, at the end


def _refuse_other_work(config: ml_collections.ConfigDict, directory: Path) -> None:
    """Raises UserError if a category's folder holds weights of another method or config."""
    frozen_config = ml_collections.FrozenConfigDict(config)
    stored.refuse_other_method(config, directory)
    for stage in get_method(config).stages(frozen_config):
        folder = stage_folder(stage, frozen_config, directory)
        checkpoint.refuse_other_config(stage, frozen_config, folder)


def train_category(
    config: ml_collections.ConfigDict,
    directory: Path,
    category: str,
    profile: Steps | None,
    retrain: bool = False,
    finetune: bool = False,
    recalibrate: bool = False,
    corrections_of: Path | None = None,
    categories_after: int = 0,
) -> None:
    """Trains or fits the stages of ``config.method``; a finished one is loaded instead.

    Metrics on held-out photos, seconds and memory go to ``stages.json``. ``categories_after`` are
    still to come, for the time left.
    """
    how = How(retrain, finetune, recalibrate, corrections_of)
    config, photos = begin(config, directory, category, how)
    stages = get_method(config).stages(config)
    train_stages(
        stages, config, {}, directory, {category: photos}, category, profile, how, categories_after
    )


def train_shared(
    config: ml_collections.ConfigDict, workdir: Path, profile: Steps | None, how: How
) -> None:
    """Trains the stages that the categories share, then fits what is each one's own.

    Raises:
      lock.LockedError: another training writes to one of the folders.
      ConfigError: the networks are there, and were trained on other categories.
    """
    with contextlib.ExitStack() as stack:
        for name in (SHARED, *config.categories):
            stack.enter_context(lock.hold(workdir / name))
        begun = {
            category: begin(config, workdir / category, category, how)
            for category in config.categories
        }
        photos = {category: own for category, (_, own) in begun.items()}
        config = _one_config([config for config, _ in begun.values()])
        learned_from = shared.settle(workdir / SHARED, photos, how.retrain, how.finetune)
        method = get_method(config)
        common = method.shared_stages(config)
        weights = train_stages(
            common, config, {}, workdir / SHARED, learned_from, SHARED, profile, how
        )
        own = method.own_stages(config)
        if own and config.shared_label == "known":
            weights = jax.tree.map(whole, weights)
        for i, category in enumerate(config.categories if own else (), start=1):
            seen = method.seen_by(category, weights, config)
            train_stages(
                own, config, seen, workdir / category, {category: photos[category]}, category,
                profile, how, len(config.categories) - i,
            )  # fmt: skip


def _one_config(
    configs: Sequence[ml_collections.FrozenConfigDict],
) -> ml_collections.FrozenConfigDict:
    """That of all categories, once photos have been looked at."""
    depths = {config.data.bit_depth for config in configs}
    if len(depths) > 1:
        raise ConfigError(
            f"config.shared: photos fill {' and '.join(map(str, sorted(depths)))} bits a channel, "
            "and networks see one bit depth: set --config.data.bit_depth, or train the categories "
            "apart"
        )
    return configs[0]


def begin(
    config: ml_collections.ConfigDict, directory: Path, category: str, how: How
) -> tuple[ml_collections.FrozenConfigDict, Split]:
    """The config with all that photos decide, and the split to work with; both are kept."""
    frozen_config = ml_collections.FrozenConfigDict(config)
    _refuse_other_work(config, directory)
    if jax.process_index() == 0:
        stored.write(config, sections(get_method(config)), directory, category)
    accepted = corrections.accepted(how.corrections_of, category) if how.corrections_of else None
    common = directory.parent / SHARED
    learned = common if category in shared.trained_on(common) else None
    photos = settle(
        frozen_config, directory, category, how.retrain, how.finetune, how.recalibrate, accepted,
        learned,
    )  # fmt: skip

    def find_bit_depth() -> int:
        if "recorded" in config.data and config.data.recorded:
            return recorded.Recording(config.data.recorded).bit_depth
        normal_files = split.paths(config, photos.train | photos.held_out)
        return bit_depth.detect(normal_files, images.rules(config.data))

    keep = bit_depth.settle if jax.process_index() == 0 else bit_depth.stored_or
    frozen_config = keep(frozen_config, directory, find_bit_depth)
    if frozen_config.data.bit_depth > 8:
        console.note(f"{category}: photos fill {frozen_config.data.bit_depth} bits a channel")
    return frozen_config, photos


def train_stages(
    stages: Sequence[Stage],
    config: ml_collections.FrozenConfigDict,
    earlier_weights: Weights,
    directory: Path,
    photos: Mapping[str, Split],
    title: str,
    profile: Steps | None,
    how: How,
    categories_after: int = 0,
) -> Weights:
    """Trains or fits ``stages`` on the photos of a category, or of several, in ``directory``.

    Returns:
      Their weights beside the earlier ones.
    """
    report_file = directory / "stages.json"
    report = files.read_json(report_file)
    data = _data(config, photos)
    weights = dict(earlier_weights)
    if jax.process_index() == 0:
        console.note(f"{title}: {outlook.describe(stages, config, photos, data.num_photos)}")

    def flop_after(stage: str) -> float:
        flop = outlook.flop_of_stages(stages, config, data, earlier_weights)
        later = [*flop][[*flop].index(stage) + 1 :]
        return sum(flop[name] for name in later) + categories_after * sum(flop.values())

    for stage in stages:
        started = time.monotonic()
        name = f"{title}/{stage.name}"
        if stage.fit:
            again = how.retrain or how.finetune
            outcome = fit.fit_stage(stage, config, weights, directory, data, name, again)
        else:
            outcome = loop.train_stage(
                stage, config, weights, directory, data, name, profile,
                functools.partial(flop_after, stage.name),
            )  # fmt: skip
        weights[stage.name] = outcome.weights
        if jax.process_index() != 0:
            continue
        seconds = time.monotonic() - started
        if outcome.trained or stage.name not in report:  # it was stopped, or killed, in between
            spent = {
                "seconds_this_run": round(seconds, 1),
                "peak_memory_mib": round(cost.peak_memory_mib()),
            }
            report[stage.name] = (spent if outcome.trained else {}) | outcome.metrics
            files.write_whole(report_file, json.dumps(report, indent=2) + "\n")
        console.note(f"{name}: {_in_short(outcome, photos.values(), seconds)}")
    if jax.process_index() == 0:
        shutil.rmtree(directory / checkpoint.EARLIER, ignore_errors=True)  # all has begun from it
    return weights


def _in_short(outcome: Outcome, photos: Iterable[Split], seconds: float) -> str:
    if not outcome.trained:
        return "finished before"
    if not outcome.metrics:
        return f"fitted in {seconds:.0f} s"
    seen = "held-out normal" if all(own.held_out for own in photos) else "training"
    values = {k: "undefined" if v is None else f"{v:.4g}" for k, v in outcome.metrics.items()}
    return f"{seen} photos: " + ", ".join(f"{k} {v}" for k, v in values.items())


def _data(config: ml_collections.FrozenConfigDict, photos: Mapping[str, Split]) -> Data:
    """Examples and photos of a category, or of several, each read when it is asked for."""

    def batches(stage: str, start: int, batch_size: int) -> Iterator[Batch]:
        return examples.batches(
            config,
            photos,
            "train",
            batch_size,
            start_step=start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            stage=stage,
        )

    @functools.cache  # the same for all stages
    def held_out() -> Batch:
        number = config.training.validation_examples
        return next(examples.batches(config, photos, "validation", number))

    def normal_photos(own: Split) -> Iterator[np.ndarray]:
        c, size = config.data, config.evaluation.batch_size
        paths = split.paths(config, own.train)
        return images.read_batches(paths, size, config.image_size, images.rules(c), c.on_bad_image)

    recording, splits = config.data.recorded, photos.values()
    return Data(
        batches=batches,
        held_out=held_out,
        normal_photos=tuple(functools.partial(normal_photos, own) for own in splits),
        num_photos=sum(len(own.train) + len(own.held_out) for own in splits),
        num_train=sum(len(own.train) for own in splits),
        photos=shared.describe(photos),
        recording=f"; {describe_photos([recording])}" if recording else "",
        pretrained=lambda stage: pretrained.load(stage.pretrained(config), config),
    )
