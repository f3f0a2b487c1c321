"""The normal photos that the work in a category's folder stands on, and those held out of it."""

import shutil
from pathlib import Path

import jax
import ml_collections

from diffad_jax.data import bit_depth, recorded, split
from diffad_jax.data.layouts import DataError
from diffad_jax.data.split import Changes, Hashes, Split, shortened
from diffad_jax.errors import ConfigError
from diffad_jax.runtime import console, files
from diffad_jax.training.checkpoint import EARLIER, Checkpoints
from diffad_jax.training.fingerprint import PHOTOS


def load_split(
    config: ml_collections.ConfigDict,
    directory: Path,
    category: str,
    accepted: Hashes | None = None,
) -> Split:
    """The split of the work in ``directory``; a new one, which is stored, where none has begun.

    Args:
      config: the whole config. What ``config.data.recorded`` holds was split when it was recorded.
      directory: the category's folder.
      category: its name.
      accepted: for a new one, see ``split.draw``.

    Raises:
      DataError: the split is lost or damaged, and the photos are others than trained on.
      recorded.RecordingError: the recording's examples show photos that are held out here.
    """
    stored = split.read(directory)
    made_of = None
    if config.data.recorded:
        made_of = recorded.Recording(config.data.recorded).photos(category)
    if stored and made_of and made_of.train.items() & stored.held_out.items():
        raise recorded.RecordingError(
            f"{config.data.recorded} shows photos that {directory / split.FILE} holds out: record "
            "it again, or choose another --workdir"
        )
    if stored:
        return stored
    found = made_of or split.draw(config, category, accepted)
    trained_on = _trained_on(directory)
    if trained_on is not None and not trained_on.startswith(found.describe()):
        if trained_on:
            raise DataError(
                f"{directory / split.FILE} is lost, and {category} holds other photos than were "
                f"trained on ({trained_on}): so it is not known which were held out. Put the file "
                "back, or train anew with --retrain"
            )
        found = found._replace(imported=True)
    if jax.process_index() == 0:
        split.write(directory, found)
    return found


def _trained_on(directory: Path) -> str | None:
    """What a trained stage's fingerprint says of its photos: "" of imported weights.

    None where no stage has begun.
    """
    said = []
    for folder in directory.iterdir() if directory.is_dir() else ():
        if not any(child.name.isdigit() for child in folder.glob("*/")):
            continue
        checkpoints = Checkpoints(folder)
        if step := checkpoints.newest_sound_step():
            said.append(checkpoints.fingerprint(step)[PHOTOS])
        checkpoints.close()
    return max(said, default=None)


def describe_changes(photos: Split, found: Changes) -> str:
    """One sentence on what the folder holds by now; empty where nothing has changed."""
    if not any(found):
        return ""
    known = len(photos.train) + len(photos.held_out)
    now = known + len(found.added) - len(found.gone)
    parts = [
        f"{len(names)} {word} ({shortened(names)})"
        for word, names in zip(("added", "gone", "changed"), found, strict=True)
        if names
    ]
    return (
        f"trained on {len(photos.train)} photos with {len(photos.held_out)} held out, {known} in "
        f"all; the folder has {now}: {', '.join(parts)}"
    )


def settle(
    config: ml_collections.ConfigDict,
    directory: Path,
    category: str,
    retrain: bool = False,
    finetune: bool = False,
    recalibrate: bool = False,
    accepted: Hashes | None = None,
    common: Path | None = None,
) -> Split:
    """The split to work with, once it is said, or settled, how the folder differs from it.

    Args:
      config: the whole config.
      directory: the category's folder.
      category: its name.
      retrain: where photos were added, changed or taken away, forget all and draw a new split.
      finetune: likewise, but keep the weights for training to begin from, and hold out nothing that
        they have seen.
      recalibrate: hold out what was added, too, without training.
      accepted: good photos of inspectors that are trained on, see ``split.draw``; None for those
        of the split.
      common: the folder of the networks that learn from these photos and from those of others.

    Raises:
      ConfigError: two of them are given; there are several processes; ``finetune`` or ``accepted``
        with a recording, whose split is its own.
    """
    _refuse_together(config, retrain, finetune, recalibrate, accepted)
    try:
        photos = load_split(config, directory, category, accepted)
    except DataError:
        if not retrain:
            raise
        forget(directory)
        return load_split(config, directory, category, accepted)
    if accepted is None:
        accepted = split.accepted_in(photos)
    found = split.changes(config, category, photos, accepted)
    said = describe_changes(photos, found)
    if photos.recalibrated and (retrain or finetune):
        said = said or f"trained on {len(photos.train)} photos, {len(photos.held_out)} held out"
    if not said:
        return photos
    places = [directory, *([common] if common else [])]
    # Nothing stands on it yet, but perhaps the weights that training was to begin from.
    is_free = jax.process_count() == 1 and all(_trained_on(place) is None for place in places)
    if is_free and not any((place / EARLIER).is_dir() for place in places):
        forget(directory)
        return load_split(config, directory, category, accepted)
    if retrain:
        one_process()
        console.note(f"{category}: {said}; training anew on what is there")
        forget(directory)
        return load_split(config, directory, category, accepted)
    if finetune or is_free:
        one_process()
        console.note(f"{category}: {said}; training on from the weights, on what is there")
        photos = split.extend(config, category, photos, accepted)
        forget(directory, keep_weights=True)
        split.write(directory, photos)
        return photos
    if recalibrate:
        one_process()
        photos = recalibrated(config, photos, found)
        split.write(directory, photos)
        console.note(f"{category}: {said}; {len(photos.held_out)} are held out now")
        return photos
    console.note(
        f"{category}: {said}. --retrain trains anew on what is there, --finetune from the present "
        "weights on; --recalibrate chooses the threshold with what was added, without training"
    )
    return photos


def _refuse_together(
    config: ml_collections.ConfigDict,
    retrain: bool,
    finetune: bool,
    recalibrate: bool,
    accepted: Hashes | None,
) -> None:
    """Raises ConfigError for what ``settle`` cannot do at once."""
    if retrain + finetune + recalibrate > 1:
        raise ConfigError("choose one of --retrain, --finetune and --recalibrate")
    if finetune and config.data.recorded:
        raise ConfigError("--finetune learns from photos, not from config.data.recorded, which "
                          "may hold out what the weights have seen")  # fmt: skip
    if accepted and config.data.recorded:
        raise ConfigError("--corrections adds photos to learn from, and config.data.recorded holds "
                          "its own: leave one of them away")  # fmt: skip
    if accepted is not None and recalibrate:
        raise ConfigError("--corrections adds photos to train on, and --recalibrate trains nothing:"
                          " recalibrate on the page of --mode=serve")  # fmt: skip


def one_process() -> None:
    if jax.process_count() > 1:
        raise ConfigError("--retrain, --finetune and --recalibrate are for one process: start a "
                          "single one, and the others when it trains")  # fmt: skip


def recalibrated(config: ml_collections.ConfigDict, photos: Split, found: Changes) -> Split:
    """``photos`` whose held-out part is the folder's: with what was added, without what is gone."""
    gone = {*found.gone}
    kept = {n: h for n, h in photos.held_out.items() if n not in gone and n not in found.changed}
    fresh = [*found.added, *(n for n in found.changed if n in photos.held_out)]
    return photos._replace(held_out=kept | split.hashes(config, fresh), recalibrated=True)


def forget(directory: Path, keep_weights: bool = False) -> None:
    """Deletes the trained stages of a category, and what was found with them.

    ``keep_weights`` moves the stages to ``EARLIER``, which training begins from. Then the split
    stays until another is written, since it says what these weights have seen.
    """
    forget_stages(directory, keep_weights)
    names = ("stages.json", "threshold.json", "threshold_tile.json")
    for name in names if keep_weights else (*names, split.FILE, bit_depth.FILE):
        (directory / name).unlink(missing_ok=True)


def forget_stages(directory: Path, keep_weights: bool = False) -> None:
    """Deletes the trained stages in a folder, or moves them, as ``forget`` does."""
    earlier = directory / EARLIER
    if not keep_weights:
        shutil.rmtree(earlier, ignore_errors=True)
    for folder in list(directory.iterdir()):
        if folder.is_dir() and any(child.name.isdigit() for child in folder.iterdir()):
            if not keep_weights:
                shutil.rmtree(folder)
                continue
            files.relocate(folder, earlier / folder.name)
