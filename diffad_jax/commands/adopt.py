"""A product that shared networks were not trained on: taken in by its good photos, no steps."""

import json
from pathlib import Path

import ml_collections
import numpy as np

from diffad_jax.commands.train import How, begin, train_stages
from diffad_jax.data import examples, images, split
from diffad_jax.errors import ConfigError
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.inference.detector import Detector, load_stages
from diffad_jax.methods.registry import SHARED, check_config, get_method
from diffad_jax.runtime import console, files, lock
from diffad_jax.training import shared
from diffad_jax.training.held_out import load_split

_MOST_PHOTOS = 32  # of a category, whose reconstructions are compared with them


def adopt(config: ml_collections.ConfigDict, workdir: Path, category: str) -> None:
    """Fits what is a category's own by networks that others share; no gradient step is taken.

    Says how far reconstructions of its good photos are from them, beside those of the products
    that the networks were trained on, and whether training is advised: where they are farther than
    those of any. ``adopted.json`` keeps it.

    Args:
      config: of ``workdir``; its categories are those that are compared with.
      workdir: holds the shared networks.
      category: a folder below ``config.data.root``.

    Raises:
      ConfigError: no networks are shared there, or they were trained on this category.
      checkpoint.CheckpointError: a stage is unfinished, or of another config.
      layouts.DataError: the category is missing or empty; photos of another one are gone.
      lock.LockedError: a training writes to one of the folders.
    """
    trained_on = shared.trained_on(workdir / SHARED)
    if not config.shared or not trained_on:
        raise ConfigError(
            f"--mode=adopt needs networks that categories share, and {workdir} holds none: train "
            "with --config.shared=True"
        )
    if category in trained_on:
        raise ConfigError(
            f"--category={category}: the networks in {workdir} were trained on it already; after "
            "photos were added --mode=train --recalibrate chooses the threshold anew"
        )
    if config.shared_label == "known":
        raise ConfigError(
            f"--mode=adopt: the denoiser of {workdir} is told which product it rebuilds, and has "
            f"learned no label of {category}: train on with all, --finetune "
            f"--config.categories={','.join(sorted([*trained_on, category]))}"
        )
    config.categories = (category,)
    check_config(config)
    if trained := [s.name for s in get_method(config).own_stages(config) if not s.fit]:
        raise ConfigError(
            f"--mode=adopt trains nothing, and each category of {workdir} trains {trained[0]} for "
            f"itself: train on with all, --finetune"
        )
    examples.prepare(config)
    directory, method = workdir / category, get_method(config)
    with lock.hold(workdir / SHARED), lock.hold(directory):
        frozen_config, photos = begin(config, directory, category, How())
        common = method.shared_stages(frozen_config)
        weights = load_stages(common, frozen_config, directory)
        if own := method.own_stages(frozen_config):
            train_stages(
                own, frozen_config, weights, directory, {category: photos}, category, None, How()
            )
        adopted = Detector.from_workdir(config, workdir, category)
        calibration = load_or_choose(config, workdir, category, adopted)
        own_db = _reconstruction_db(config, workdir, category)
        others = {name: _reconstruction_db(config, workdir, name) for name in sorted(trained_on)}
        advised = own_db < min(others.values())
        found = {
            "threshold": calibration.threshold,
            "reconstruction_db": own_db,
            "reconstruction_db_of_trained": others,
            "training_advised": advised,
        }
        files.write_whole(directory / shared.ADOPTED, json.dumps(found, indent=2) + "\n")
    said = calibration.why_no_threshold if calibration.threshold is None else (
        f"threshold {calibration.threshold:.4g}, from {calibration.describe_photos()}"
    )  # fmt: skip
    console.say(f"{category}: {said}")
    compared = ", ".join(f"{name} {db:.1f}" for name, db in others.items())
    console.say(
        f"{category}: its reconstructions are {own_db:.1f} dB from its good photos (PSNR, median), "
        f"those of the products that the networks were trained on: {compared}"
    )
    every = ",".join(sorted({*trained_on, category}))
    console.say(
        f"{category}: training is advised, --finetune --config.categories={every}"
        if advised
        else f"{category}: no training is advised"
    )


def _reconstruction_db(config: ml_collections.ConfigDict, workdir: Path, category: str) -> float:
    """PSNR of reconstructions against good photos that were not trained on, peak 1: the median."""
    detector = Detector.from_workdir(config, workdir, category)
    photos = load_split(config, workdir / category, category)
    chosen = dict(sorted((photos.held_out or photos.train).items())[:_MOST_PHOTOS])
    c, size = detector.config.data, config.evaluation.batch_size
    paths, found = split.paths(config, chosen), []
    for batch in images.read_batches(
        paths, size, config.image_size, images.rules(c), c.on_bad_image
    ):
        made = detector.predict_all(batch, size).reconstruction
        errors = np.mean((np.float64(made) - batch / 255.0) ** 2, axis=(1, 2, 3))
        found += (-10.0 * np.log10(errors)).tolist()
    return float(np.median(found))
