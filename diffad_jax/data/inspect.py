"""Shows what a category holds and what training will see of it, before training takes hours."""

import collections
import copy
import dataclasses
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import tqdm

from diffad_jax.data import advice, bit_depth, images, layouts, masks, pictures
from diffad_jax.runtime.files import write_whole

logger = logging.getLogger(__name__)
_COLUMNS = ("normal photo", "texture used", "mask", "result")
_EXAMPLES, _ROWS = 256, 16  # synthesised; of these on the contact sheet
_FEW_SIZES = 6  # so many distinct sizes are counted one by one
QUANTILES = {
    "min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Facts about one photo and its mask, from their files."""

    record: layouts.Record
    facts: images.PhotoFacts | None  # None where it is unreadable
    error: str | None = None  # why the photo or its mask is
    mask_share: float | None = None  # of the photo's pixels; None without a readable mask
    lost_by_resizing: bool = False  # the mask has anomalous pixels, but at image_size none


def inspect_category(
    config: ml_collections.ConfigDict, category: str, output: Path, synthesis: bool = True
) -> dict[str, Any]:
    """Writes ``contact_sheet.png`` and ``summary.json`` into ``output``.

    All photos and masks are decoded whole, one a core at a time, because damage can lie at the end
    of a file. All bad ones are listed. Duplicates are found by the SHA-256 of their pixels, so a
    photo that was saved in two formats is found, too: training would see it twice.

    Args:
      config: the whole config; ``config.data.recorded`` is ignored.
      category: a folder below ``config.data.root``.
      output: a folder; it is made.
      synthesis: whether the method learns from examples with synthetic anomalies. The contact sheet
        then shows such examples, else normal photos.

    Returns:
      The content of ``summary.json``, for ``inspect_text.as_text``. Shares are in [0, 1].

    Raises:
      layouts.DataError: no such category, or no normal photo.
    """
    found = layouts.survey(config.data.root, category, config.data.layout)
    normal_files = [r.file for r in found.records if r.split == "train"]
    rules = images.rules(config.data)
    config = bit_depth.stated(config, lambda: bit_depth.detect(normal_files, rules))
    examples = _examples(config, category) if synthesis else None
    mask_files = [r.mask for r in found.records if r.mask is not None]
    mask_set, problems = masks.survey(mask_files, images.rules(config.data))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = pool.map(lambda r: _look(config, r, mask_set), found.records)
        seen = list(tqdm.tqdm(looks, f"reading {category}", len(found.records), disable=None))
    for s in seen:
        if s.error and s.record.split == "test":
            logger.warning("evaluation will stop at this test file: %s", s.error)
    train = [s for s in seen if s.record.split == "train"]
    test = [s for s in seen if s.record.split == "test"]
    share, rate = config.data.validation_share, config.evaluation.false_alarm_rate
    held_out = layouts.split_validation([s.record for s in train], share, config.seed)[1]
    duplicates = _duplicates(seen)
    summary = {
        "category": category,
        "advice": [
            *advice.few_photos(len(train), len(held_out), rate, share),
            *advice.duplicates(duplicates["train"], duplicates["across"]),
            *advice.pages([(s.record.file, s.facts.pages) for s in seen if s.facts]),
            *_advice_on_looks([s for s in seen if s.facts and not s.record.is_anomalous]),
        ],
        "left_out": found.left_out,
        "faults": found.faults,
        "train": _photos(train) | {"held_out": len(held_out)},
        "test": _photos(test),
        "unreadable": [
            {"split": s.record.split, "file": s.record.file, "reason": s.error}
            for s in seen
            if s.error
        ],
        "duplicates": duplicates,
        "masks": _masks(config, test) | {"values": mask_set.describe(), "problems": problems},
        "synthesis": None,
    }
    sheet = output / "contact_sheet.png"
    if examples is None:
        _show_photos(config, train, mask_set.rules, sheet)
    else:
        summary["synthesis"] = _synthesis(config, examples, sheet)
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    write_whole(output / "summary.json", text)
    return summary


def _examples(config: ml_collections.ConfigDict, category: str) -> Iterator[dict[str, np.ndarray]]:
    """Training examples of the readable photos; none where no photo is."""
    # Imported here: evaluation, which shares ``workflow``, runs where TensorFlow is not installed.
    from diffad_jax.data import pipeline

    skipping = copy.deepcopy(config)
    skipping.data.on_bad_image = "skip"
    try:
        examples = pipeline.examples(skipping, category, "train").take(_EXAMPLES)
    except images.ImageError as error:
        logger.warning("no training example can be made: %s", error)
        return iter(())
    return examples.as_numpy_iterator()


def _advice_on_looks(normal: Sequence[_Seen]) -> list[str]:
    facts = [s.facts for s in normal]
    return [
        *advice.sizes([f.size for f in facts]),
        *advice.colours([f.mode for f in facts]),
        *advice.light(
            [f.brightness for f in facts],
            [s.record.split == "train" for s in normal],
            [s.record.file for s in normal],
        ),
    ]


def _look(
    config: ml_collections.ConfigDict, record: layouts.Record, mask_set: masks.MaskSet
) -> _Seen:
    facts, rule = None, config.evaluation.mask_rule
    try:
        facts = images.photo_facts(record.file, mask_set.rules)
        if record.mask is None:
            return _Seen(record, facts)
        mask = mask_set.read(record.mask, None, rule, facts.size)
        resized = mask_set.read(record.mask, config.image_size, rule)
    except images.ImageError as error:
        return _Seen(record, facts, str(error))
    lost = bool(mask.any()) and not resized.any()
    return _Seen(record, facts, None, float(mask.mean()), lost)


def _photos(seen: Sequence[_Seen]) -> dict[str, Any]:
    facts = [s.facts for s in seen if s.facts]
    return {
        "photos": len(seen),
        "by_type": _count(s.record.defect_type for s in seen),
        "sizes": _sizes([f.size for f in facts]),
        "modes": _count(f.mode for f in facts),
        "formats": _count(f.file_format for f in facts),
    }


def _sizes(sizes: Sequence[tuple[int, int]]) -> dict[str, Any] | None:
    if not sizes:
        return None
    counts = _count(f"{width} × {height}" for width, height in sizes)
    spread = {
        name: {"min": min(side), "median": float(np.median(side)), "max": max(side)}
        for name, side in zip(("width", "height"), zip(*sizes, strict=True), strict=True)
    }
    few = {"counts": counts} if len(counts) <= _FEW_SIZES else {}
    return {"distinct": len(counts), **spread, **few}


def _duplicates(seen: Sequence[_Seen]) -> dict[str, list[list[str]]]:
    """Groups of files with equal pixels, by where they lie."""
    same = collections.defaultdict(list)
    for s in seen:
        if s.facts:
            same[s.facts.sha256].append(s.record)
    found: dict[str, list[list[str]]] = {"train": [], "test": [], "across": []}
    for records in same.values():
        place = records[0].split if len({r.split for r in records}) == 1 else "across"
        if len(records) > 1:
            found[place].append([r.file for r in records])
    return found


def _masks(config: ml_collections.ConfigDict, test: Sequence[_Seen]) -> dict[str, Any]:
    """Areas of the masks at their own size; masks that are missing, empty or lost by resizing."""
    masked = [s for s in test if s.mask_share is not None]
    shares = collections.defaultdict(list)
    for s in masked:
        shares["all defects"].append(s.mask_share)
        shares[s.record.defect_type].append(s.mask_share)
    return {
        "rule": config.evaluation.mask_rule,
        "missing": [s.record.file for s in test if s.record.is_anomalous and s.record.mask is None],
        "empty": [s.record.mask for s in masked if not s.mask_share],
        "lost_by_resizing": [s.record.mask for s in masked if s.lost_by_resizing],
        "share": {kind: _spread(values) for kind, values in shares.items()},
    }


def _show_photos(
    config: ml_collections.ConfigDict, train: Sequence[_Seen], rules: images.Rules, sheet: Path
) -> None:
    """A sheet of the first readable normal photos, as the detector sees them."""
    files = [s.record.file for s in train if s.facts][:_ROWS]
    rows = [
        pictures.Row(os.path.basename(f), [images.read_image(f, config.image_size, rules)])
        for f in files
    ]
    pictures.contact_sheet(sheet, _COLUMNS[:1], rows)


def _synthesis(
    config: ml_collections.ConfigDict, examples: Iterable[dict[str, np.ndarray]], sheet: Path
) -> dict[str, Any]:
    """Areas of all examples, and a sheet of the first that show an anomaly."""
    shares, rows = [], []
    for i, example in enumerate(examples):
        mask = example["anomaly_mask"]
        shares.append(float(mask.mean()))
        if mask.any() and len(rows) < _ROWS:
            white = np.repeat(255 * mask, 3, axis=-1)
            tiles = [example["image"], example["texture"], white, example["augmented_image"]]
            rows.append(pictures.Row(f"example {i}: {100 * shares[-1]:.2f} % anomalous", tiles))
    pictures.contact_sheet(sheet, _COLUMNS, rows)
    anomalous = [share for share in shares if share]
    return {
        "examples": len(shares),
        "normal": len(shares) - len(anomalous),
        "normal_probability": config.synthesis.normal_probability,
        "share": _spread(anomalous),
    }


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(collections.Counter(values).most_common())


def _spread(shares: Sequence[float]) -> dict[str, float] | None:
    if not shares:
        return None
    levels = np.quantile(shares, list(QUANTILES.values()))
    return {"count": len(shares)} | dict(zip(QUANTILES, map(float, levels), strict=True))
