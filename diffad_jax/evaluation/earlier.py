"""Results of other settings or weights stay beside the new ones."""

import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from diffad_jax.runtime import console, files


def as_json(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A config in the form that a record keeps."""
    return json.loads(config.to_json_best_effort())


def keep(
    record: Path, together: Sequence[str], config: dict[str, Any], weights: Mapping[str, str]
) -> None:
    """Gives the files of an earlier result names of their own, such as ``metrics_1.json``.

    A result of the same config and weights keeps its names, because it may be replaced. All files
    of one result get the same number.

    Args:
      record: JSON with the ``config`` of the earlier result and the ``weights`` of each of its
        ``categories``. It may be absent.
      together: globs below its folder, of the other files of the result.
      config: of the new result, ``as_json``.
      weights: of the new result, the hash by category; some of them, or all.
    """
    if not record.exists():
        return
    earlier = files.read_json(record)
    known = {c: found.get("weights") for c, found in earlier.get("categories", {}).items()}
    if earlier.get("config") == config and weights.items() <= known.items():
        return
    number = next(i for i in itertools.count(1) if not _named(record, i).exists())
    for glob in together:
        for path in record.parent.glob(glob):
            _copy(path, _named(path, number))
    _copy(record, _named(record, number))
    record.unlink()  # so that it is done once
    console.note(
        f"{record} holds an earlier result, of another config (its folders count) or of other "
        f"weights. It is kept as {_named(record, number).name}, and its tables and reports "
        "likewise; --overwrite replaces them"
    )


def _named(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}_{number}{path.suffix}")


def _copy(path: Path, target: Path) -> None:
    with files.whole(target) as temporary:
        shutil.copyfile(path, temporary)
