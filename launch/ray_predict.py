"""Scores photos on a Ray cluster, and writes Parquet: what --mode=predict finds, at any size.

    python -m launch.ray_predict --workdir=runs/mine --input=/data/photos --output=/data/scores \\
      --workers=8 --num_gpus=1

Start it from the repository, where Ray (``pip install 'diffad_jax[ray]'``) and this package are
installed on all machines. It joins the cluster that RAY_ADDRESS names, or makes one of this
machine. Called again it goes on: photos that have a score in the output are not scored again. A
worker that is lost is started again, and what it had in hand is scored anew. Exit status: 0 all
photos have a score, 3 some could not be read, and their rows say why.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import ray
import ray.data

from diffad_jax.errors import ConfigError, UserError
from diffad_jax.inference import batching, sources, writer
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.inference.detector import Detector, score_settings
from diffad_jax.runtime import console
from diffad_jax.runtime.compilation import keep_compiled

_BATCHES = 8  # of the detector, in what a worker is given at once
_PHOTO = pa.schema([("file", pa.string()), ("bytes", pa.int64()), ("modified_ns", pa.int64())])
_REGION = pa.struct(
    [
        ("box", pa.list_(pa.int64())),
        ("area", pa.int64()),
        ("peak", pa.float64()),
        ("peak_at", pa.list_(pa.int64())),
    ]
)
_ROW = pa.schema(
    [
        *_PHOTO,
        ("score", pa.float64()),
        ("is_anomalous", pa.bool_()),
        ("threshold", pa.float64()),
        ("pixel_threshold", pa.float64()),
        ("detector", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("windows", pa.int64()),
        ("num_regions", pa.int64()),
        ("regions", pa.list_(_REGION)),
        ("error", pa.string()),
    ]
)
_MAP = pa.schema([("anomaly_map", pa.list_(pa.list_(pa.float32())))])  # rows of pixels


class Settings(NamedTuple):
    """What all workers are told."""

    workdir: str
    category: str
    tile: bool
    maps: bool

    @property
    def schema(self) -> pa.Schema:
        return pa.unify_schemas([_ROW, _MAP]) if self.maps else _ROW


class Scorer:
    """A worker, which holds the detector."""

    def __init__(self, settings: Settings):
        from diffad_jax.config import stored

        keep_compiled()
        workdir = Path(settings.workdir)
        config = stored.of_workdir(workdir, [settings.category] if settings.category else [])
        if len(config.categories) != 1:
            raise ConfigError(
                f"{workdir} holds detectors of several categories: name one with --category"
            )
        category = config.categories[0]
        self._settings = settings
        self._detector = Detector.from_workdir(config, workdir, category)
        found = load_or_choose(config, workdir, category, self._detector, settings.tile)
        made_by = {"category": category, "weights": self._detector.weights_hash}
        made_by |= score_settings(config, settings.tile)
        self.made = writer.Made(made_by, found.threshold, found.pixel_threshold, ())
        self.batch_size = config.evaluation.batch_size

    def __call__(self, photos: pa.Table) -> Iterator[pa.Table]:
        """Scores the photos of a table; yields rows as they are finished."""
        listed = {
            row["file"]: sources.Photo(row["file"], row["file"], row["bytes"], row["modified_ns"])
            for row in photos.to_pylist()
        }
        for results in batching.score_photos(self._detector, listed, self._settings.tile):
            rows = [self._row(listed[result.path], result) for result in results]
            yield pa.Table.from_pylist(rows, schema=self._settings.schema)

    def _row(self, photo: sources.Photo, result: Any) -> dict[str, Any]:
        made = self.made
        row = writer.to_row(
            photo, result, root="", threshold=made.threshold, pixel_threshold=made.pixel_threshold
        )
        row |= {
            "detector": made.detector,
            "threshold": made.threshold,
            "pixel_threshold": made.pixel_threshold,
        }
        if self._settings.maps and row["error"] is None:
            row["anomaly_map"] = list(result.anomaly_map)
        return row


def what_it_makes(scorer: type[Scorer], settings: Settings) -> tuple[writer.Made, int]:
    """What rows come from, and the size of a batch; found on a worker, as drivers have no GPU."""
    made_by = scorer(settings)
    return made_by.made, made_by.batch_size


def in_folder(source: str, output: str) -> pa.Table:
    """The photos of a folder, a glob or -, as for --mode=predict."""
    found = sources.list_photos(source, Path(output)).photos
    try:
        columns = zip(*((p.path, p.num_bytes, p.modified_ns) for p in found), strict=True)
        return pa.table([pa.array(c) for c in columns], schema=_PHOTO)
    except UnicodeEncodeError as error:
        raise UserError(f"{error.object!r}: Parquet holds no name that is not UTF-8") from error


def in_table(source: str) -> pa.Table:
    """Those that a Parquet file, or a folder of them, names in its column ``file``."""
    system, path = pyarrow.fs.FileSystem.from_uri(absolute(source))
    try:
        names = pyarrow.parquet.read_table(path, columns=["file"], filesystem=system)["file"]
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"--input={source} cannot be read as a table of photos: {error}") from error
    unknown = pa.nulls(len(names), pa.int64())
    return pa.table([names.cast(pa.string()), unknown, unknown], schema=_PHOTO)


def absolute(place: str) -> str:
    return place if "://" in place else os.path.abspath(os.path.expanduser(place))


class Output:
    """A folder of Parquet, in any storage that Arrow knows: a path, gs://… or s3://…"""

    def __init__(self, place: str):
        self.place = absolute(place)
        self._system, self._path = pyarrow.fs.FileSystem.from_uri(self.place)

    def files(self) -> list[str]:
        selector = pyarrow.fs.FileSelector(self._path, allow_not_found=True)
        found = self._system.get_file_info(selector)
        return sorted(f.path for f in found if f.path.endswith(".parquet"))

    def done(self, made: writer.Made) -> pa.Array:
        """The photos that have a score.

        What a killed run left half-written is removed, and so are rows of photos that could not be
        read: they are tried again, as by --mode=predict.

        Raises:
          UserError: rows are of another detector or threshold, or of another program.
        """
        names, columns = [], ["file", "detector", "threshold", "error"]
        for path in self.files():
            try:
                schema = pyarrow.parquet.read_schema(path, filesystem=self._system)
            except pa.ArrowInvalid:
                console.note(f"{path}: left half-written by a killed run, removed")
                self._system.delete_file(path)
                continue
            if not {*columns} <= {*schema.names}:
                raise UserError(f"{path} holds no rows of this script: choose another --output")
            table = self._read(path, columns)
            others = set(table["detector"].unique().to_pylist()) - {made.detector}
            if others or set(table["threshold"].unique().to_pylist()) - {made.threshold}:
                raise UserError(
                    f"{path} holds rows of another detector or threshold: choose another --output"
                )
            scored = pc.is_null(table["error"])
            if not pc.all(scored).as_py():
                kept = self._read(path).filter(scored)
                pyarrow.parquet.write_table(kept, path, filesystem=self._system)
            names += table.filter(scored)["file"].chunks
        return pa.chunked_array(names, pa.string()).combine_chunks()

    def _read(self, path: str, columns: list[str] | None = None) -> pa.Table:
        return pyarrow.parquet.read_table(path, columns=columns, filesystem=self._system)

    def count(self, condition: pc.Expression | None = None) -> int:
        """Rows, or those that a condition holds for."""
        found = pyarrow.dataset.dataset(self.files(), schema=_ROW, filesystem=self._system)
        return found.count_rows(filter=condition)


def main(scorer: type[Scorer] = Scorer) -> None:
    args = parsed()
    settings = Settings(os.path.abspath(args.workdir), args.category, args.tile, args.maps)
    resources = {"num_cpus": args.num_cpus, "num_gpus": args.num_gpus}
    if args.resource:
        resources["resources"] = {args.resource: 1}
    ray.init(log_to_driver=args.verbose)
    asked = ray.remote(max_calls=1, **resources)(what_it_makes)
    made, batch_size = ray.get(asked.remote(scorer, settings))
    output = Output(args.output)
    done = output.done(made)
    begun = time.monotonic()
    if args.input.endswith(".parquet"):
        photos = in_table(args.input)
    else:
        photos = in_folder(args.input, args.output)
    photos = photos.filter(pc.invert(pc.is_in(photos["file"], done)))
    rows = _BATCHES * batch_size
    blocks = [photos.slice(i, rows).combine_chunks() for i in range(0, len(photos), rows)]
    if blocks:
        scored = ray.data.from_arrow(blocks).map_batches(
            scorer,
            fn_constructor_args=(settings,),
            batch_size=rows,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=args.workers),
            **resources,
        )
        scored.write_parquet(
            output.place,
            min_rows_per_file=args.rows_per_file,
            ray_remote_args={"num_cpus": 0},  # it waits for no core that a worker holds
        )
    total, seconds = output.count(), time.monotonic() - begun
    unreadable = output.count(pc.field("error").is_valid())
    anomalous = output.count(pc.field("is_anomalous"))
    scored_now = total - len(done)
    console.say(
        f"{scored_now} photos in {seconds:.0f} s, {len(done)} had been scored before: {anomalous} "
        f"are anomalous, {unreadable} could not be read; rows in {output.place}"
    )
    sys.exit(3 if unreadable else 0)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, help="of the detector; all machines see it")
    parser.add_argument("--category", default="", help="where the work directory holds several")
    parser.add_argument(
        "--input", required=True, help="as for predict; or X.parquet: a column file"
    )
    parser.add_argument("--output", required=True, help="a folder, gs://… or s3://…, for Parquet")
    parser.add_argument("--workers", type=int, default=1, help="each holds a detector")
    parser.add_argument("--num_gpus", type=float, default=0, help="of a worker")
    parser.add_argument("--num_cpus", type=float, default=1, help="of a worker")
    parser.add_argument("--resource", default="", help="of a worker, one: such as TPU")
    parser.add_argument("--rows_per_file", type=int, default=10_000, help="at least")
    parser.add_argument("--tile", action="store_true", help="as for predict")
    parser.add_argument("--maps", action="store_true", help="a column anomaly_map")
    parser.add_argument("--verbose", action="store_true", help="show what workers print")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        # Ray's own error of a worker is of its class, and holds it.
        console.note(f"error: {getattr(error, 'cause', error)}")
        sys.exit(1)
