"""Scores photos, any number, and shows where the defects are; needs no TensorFlow."""

import collections
import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import ml_collections

from diffad_jax.data import images
from diffad_jax.data.layouts import DataError
from diffad_jax.errors import ConfigError
from diffad_jax.evaluation import predictions_page
from diffad_jax.export.exported import ExportedDetector
from diffad_jax.inference import batching, shards, sources, writer
from diffad_jax.inference.calibration import Calibration, load_or_choose
from diffad_jax.inference.detector import Detector, score_settings
from diffad_jax.inference.sources import Photo
from diffad_jax.inference.writer import Row
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import console, lock
from diffad_jax.runtime.batches import map_ahead
from diffad_jax.runtime.progress import CountProgress
from diffad_jax.runtime.signals import Stopped, StopSignal
from diffad_jax.types import height_width

_PAGE = "predictions.html"
_SHOWN = 20  # unreadable files at the end; the tables name all
_TILE_NOTE = (
    "tiles show products at the photos' own scale: right for a detector trained on windows of "
    "{width} × {height} pixels cut from such photos, not on photos shrunk to that size"
)


class UnreadableError(images.ImageError):
    """Some files could not be scored; all others were."""

    exit_status = 3


@dataclasses.dataclass
class _Seen:
    """The counts of one call."""

    num_photos: int = 0
    reasons: list[str] = dataclasses.field(default_factory=list)  # of files without a score
    windows: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    num_reduced: int = 0  # photos with reduced pictures

    def count(self, rows: Sequence[Row]) -> None:
        self.num_photos += len(rows)
        self.reasons += [row["error"] for row in rows if row["error"]]
        self.windows.update(row["windows"] for row in rows if not row["error"])
        self.num_reduced += sum(row.get("pictures_reduced", 1) > 1 for row in rows)


class How(NamedTuple):
    """How photos are scored, and what is written.

    Attributes:
      tile: cut photos into windows of ``image_size`` at their own resolution instead of resizing.
      save: pictures for each photo, of ``writer.PICTURES``.
      threshold: replaces the one that held-out photos give.
      overwrite: replace results of these photos that come from other weights or settings.
      shard: score its photos alone, into its own folder below the output.
    """

    tile: bool = False
    save: Sequence[str] = ("overlay",)
    threshold: float | None = None
    overwrite: bool = False
    shard: shards.Shard | None = None


class Judge(NamedTuple):
    """What scores the photos of one category, in place of the work directory's detector."""

    detector: ExportedDetector
    calibration: Calibration


def predict_photos(
    config: ml_collections.ConfigDict,
    workdir: Path,
    source: Path,
    output: Path,
    how: How | None = None,
    judge: Judge | None = None,
) -> None:
    """Scores photos; writes predictions.html, .jsonl and .csv, settings.json and pictures.

    Called again it scores what is missing; results of other photos stay. Whenever it is stopped,
    tables and pictures hold all finished batches. The page shows the whole table.

    Args:
      config: the whole config; ``evaluation.batch_size`` is the number of windows in a batch.
      workdir: holds the category's weights and thresholds.
      source: a folder, a glob or - (``sources.list_photos``).
      output: a folder; pictures lie below it as their photos lie below the source.
      how: see ``How``; None is ``How()``.
      judge: of an exported folder, which ``workdir`` is then.

    Raises:
      ConfigError: no such picture, or the method has none; masks without a threshold.
      layouts.DataError: no photo, or several categories are configured; results would be
        replaced.
      lock.LockedError: another prediction writes to ``output``.
      UnreadableError: at the end, where photos could not be read; exit status 3.
      Stopped: after SIGTERM or Ctrl-C; exit status 75.
    """
    output = output.expanduser()
    how = how or How()
    check(config, how)
    finishing = None
    if not how.shard:
        listing = sources.list_photos(source, output)
    else:
        listing = sources.list_photos(source, output, how.shard.holds)
        console.note(f"shard {how.shard}: {len(listing.photos)} photos")
        output = how.shard.folder(output)
        finishing = shards.finishing(output, listing)
    detector, calibration = judge or (
        Detector.from_workdir(config, workdir, config.categories[0]),
        None,
    )
    predict_listing(config, workdir, listing, output, how, detector, finishing, calibration)


def predict_listing(
    config: ml_collections.ConfigDict,
    workdir: Path,
    listing: sources.Listing,
    output: Path,
    how: How,
    detector: Detector | ExportedDetector,
    finishing: contextlib.AbstractContextManager | None = None,
    calibration: Calibration | None = None,
) -> None:
    """``predict_photos`` of photos that are listed, by the category's ``detector``.

    ``finishing`` is entered once ``output`` is held. ``calibration`` is the detector's, where the
    work directory is not to choose it.
    """
    tile, save = how.tile, how.save
    finishing = finishing or contextlib.nullcontext()
    category = config.categories[0]
    explaining = _explaining_what_cannot_be_written()
    with StopSignal() as stop, explaining, lock.hold(output), finishing:
        if calibration is None:
            calibration = load_or_choose(config, workdir, category, detector, tile, how.threshold)
        if calibration.pixel_threshold is None and "mask" in save:
            raise ConfigError(
                "--save=mask needs the pixel threshold that held-out normal photos give, and "
                "there are too few of them, or none is at hand"
            )
        if tile:
            height, width = height_width(config.image_size)
            console.note(_TILE_NOTE.format(width=width, height=height))
        settings = {"category": category, "weights": detector.weights_hash}
        settings |= score_settings(config, tile)
        made = writer.Made(
            settings, calibration.threshold, calibration.pixel_threshold, tuple(save)
        )
        with writer.Tables(output, listing, made, how.overwrite) as tables:
            done = len(tables.done)
            to_row = _to_row(calibration, listing.root, output, tables.prefix, save)
            todo = {p.path: p for p in listing.photos if p.name not in tables.done}
            seen = _score(detector, todo, tile, tables, to_row, stop)
        predictions_page.write_page(output / _PAGE, _rows(output), category)
        if seen.num_photos < len(todo):
            raise Stopped(
                f"stopped after {seen.num_photos} of {len(todo)} photos; "
                "the same command goes on from there"
            )
    # By whole paths, since rows of an earlier call may have another root.
    listed = {os.path.join(listing.root, photo.name) for photo in listing.photos}
    asked = (row for row in _rows(output) if writer.path_of(row) in listed)
    console.say(predictions_page.describe(asked))
    _report(calibration, seen, done, output)


def merge(config: ml_collections.ConfigDict, output: Path, overwrite: bool = False) -> None:
    """Joins the tables of all shards into one table and page in ``output``.

    Raises:
      layouts.DataError: there is no shard; results that come from no shard would be replaced.
      shards.IncompleteError: at the end, where shards are missing or not finished; exit status 3.
      lock.LockedError: another process writes to ``output``.
    """
    output = output.expanduser()
    with _explaining_what_cannot_be_written(), lock.hold(output):
        rows, title = shards.join(output, overwrite), config.categories[0]
        said = predictions_page.write_page(output / _PAGE, rows, title)
        missing = shards.missing(output)
    console.say(said)
    console.say(f"{output / _PAGE} shows them, predictions.csv lists them")
    if missing:
        named = ", ".join(map(str, missing[:_SHOWN])) + (", …" if missing[_SHOWN:] else "")
        raise shards.IncompleteError(
            f"{len(missing)} of {missing[0].count} shards are missing or not finished: {named}; "
            "run --mode=predict --shard of each, then --mode=merge again"
        )


def _rows(output: Path) -> Iterator[Row]:
    return (row for _, row in writer.read_rows(output))


@contextlib.contextmanager
def _explaining_what_cannot_be_written() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write the results: {error}; then start again") from error


def check(config: ml_collections.ConfigDict, how: How) -> None:
    """Raises what ``predict_photos`` does of the config and of ``how``, before any work."""
    tile, save, threshold = how.tile, how.save, how.threshold
    if len(config.categories) != 1:
        raise DataError(
            "predict needs one category, to know whose detector to use: "
            f"--config.categories={config.categories[0]}"
        )
    if unknown := set(save) - set(writer.PICTURES):
        known = ", ".join(writer.PICTURES)
        raise ConfigError(f"--save={min(unknown)}: choose some of {known}, or nothing")
    if threshold is not None and not math.isfinite(threshold):
        raise ConfigError(f"--threshold={threshold}: must be a finite number")
    method = get_method(config)
    if "reconstruction" in save and not method.reconstructs:
        raise ConfigError(f"--save=reconstruction: {config.method} makes none")
    if tile and (reason := method.whole_photos(ml_collections.FrozenConfigDict(config))):
        raise ConfigError(f"--tile does not go with {config.method}, {reason}")
    if tile and method.score_map is None:
        raise ConfigError(
            f"--tile does not go with {config.method}, whose score is no value of its map"
        )


def _to_row(
    calibration: Calibration, root: str, output: Path, prefix: str, save: Sequence[str]
) -> Callable[..., Row]:
    return functools.partial(
        writer.write_row,
        root=root,
        threshold=calibration.threshold,
        scale=calibration.scale,
        output=output,
        prefix=prefix,
        save=save,
    )


def _score(
    detector: Detector,
    photos: dict[str, Photo],
    tile: bool,
    tables: writer.Tables,
    to_row: Callable[..., Row],
    stop: StopSignal,
) -> _Seen:
    """Scores photos, by path, and adds their rows; pictures are written while the device works."""
    seen = _Seen()
    budget = batching.budget(detector.config)

    def write(results: Sequence[batching.Scored | batching.Unreadable]) -> list[Row]:
        return list(
            map_ahead(
                lambda result: to_row(photos[result.path], result),
                results,
                threads=os.cpu_count() or 1,
                ahead=len(results),
                cost=writer.memory_to_draw,
                budget=budget,
            )
        )

    with CountProgress(len(photos)) as progress, ThreadPoolExecutor(1) as behind:

        def settle(writing: Future[list[Row]]) -> None:
            rows = writing.result()
            tables.append(rows)
            seen.count(rows)
            progress.update(len(rows))

        writing = behind.submit(write, [])
        for results in batching.score_photos(detector, photos, tile):
            settle(writing)
            writing = behind.submit(write, results)
            if stop.received:
                break
        settle(writing)
    return seen


def _report(calibration: Calibration, seen: _Seen, done: int, output: Path) -> None:
    """Prints what was done; raises UnreadableError for what was not."""
    before = f"; {done} photos had been scored before" if done else ""
    console.say(f"{output / _PAGE} shows them, predictions.csv lists them{before}")
    if seen.num_reduced:
        console.note(
            f"{seen.num_reduced} photos were too large to be held, and were read in strips: their "
            "pictures are smaller than they are, by pictures_reduced in predictions.jsonl"
        )
    larger = sum(n for w, n in seen.windows.items() if w > calibration.max_windows)
    if calibration.threshold is None:
        console.note(f"no verdicts: {calibration.why_no_threshold}")
    elif larger and calibration.num_held_out_normal:
        console.note(
            f"{larger} photos have more windows than any held-out normal photo "
            f"({calibration.max_windows}), so more false alarms than "
            f"{100 * calibration.false_alarm_rate:g} %"
        )
    if reasons := seen.reasons:
        more = [f"and {len(reasons) - _SHOWN} more, in the tables"] if reasons[_SHOWN:] else []
        raise UnreadableError(
            f"{len(reasons)} of {done + seen.num_photos} photos could not be read:\n  "
            + "\n  ".join([*reasons[:_SHOWN], *more])
        )
