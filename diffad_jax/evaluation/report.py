"""``report.html``: one category's metrics, curves and pictures in a file that can be mailed.

It loads nothing from elsewhere and may be opened without a network. The page is the template
beside this module; this module supplies its data.
"""

import base64
import dataclasses
import datetime
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffad_jax.data import pictures
from diffad_jax.evaluation import page, tables
from diffad_jax.evaluation.metrics import CategoryMetrics, Curves, TestSet
from diffad_jax.evaluation.metrics_file import plain_intervals, versions
from diffad_jax.evaluation.pixels import Maps, Pictures
from diffad_jax.evaluation.ranking import NO_RECONSTRUCTION, Metric, Scores

_BUDGET = 10 * 2**20  # bytes of pictures in a report; base64 makes four of three
_MAX_SIDE = 256  # pixels; larger pictures are reduced
_QUALITIES = (82, 65, 45)  # of JPEG; the first at which all pictures fit
_SAMPLE = 12  # photos to tell that by
MASK_RULES = {
    "full": "a pixel is anomalous where its resized mask is still white (the published rule)",
    "half": "a pixel is anomalous where its resized mask is above half",
    "any": "a pixel is anomalous where its resized mask is not black",
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A threshold on the score: photos above it are called anomalous."""

    name: str
    value: float
    chosen_on: str
    used_test_labels: bool
    expects: str = ""  # what it was chosen on says of it, such as the rate of false alarms


@dataclasses.dataclass(frozen=True)
class Content:
    """The content of a report on n photos; the first k have pictures."""

    category: str
    test: TestSet
    measured: CategoryMetrics  # FID included where it was measured
    scores: Scores
    maps: Maps
    scale: pictures.Scale  # the colours of the maps
    columns: Mapping[str, Pictures]  # by title, beside the input
    thresholds: Sequence[Verdict]  # on the score; the page starts at the first
    settings: Mapping[str, str]  # what the metrics depend on, in words
    stand_in: str = ""  # what the photos are worth that stand in for test photos; empty: none do
    no_threshold: str = ""  # why there is none of held-out photos; empty: there is one


def write_report(path: Path, content: Content) -> None:
    """Writes the file whole or not at all; its folder is made.

    Pictures are JPEGs, up to 10 MiB in all; the most wrongly ranked photos come first. The others
    say that they have none.
    """
    test, measured = content.test, content.measured
    data = {
        "category": content.category,
        "date": datetime.date.today().isoformat(),
        "size": test.photos.shape[1:3],  # height, width
        "metrics": _metrics(measured),
        "by_defect": _by_defect(measured, test),
        "curves": {
            "image": _curves(measured.images),
            "pixel": _curves(measured.pixels),
        },
        "pixel_marker": best._asdict() if (best := measured.pixels.best) else None,
        "thresholds": [dataclasses.asdict(t) for t in content.thresholds],
        "settings": dict(content.settings),
        "stand_in": content.stand_in,
        "no_threshold": content.no_threshold,
        "versions": versions(),
        "photos": _photos(test, measured, content.scores),
    }
    _add_pictures(data["photos"], content)
    parts = {
        "title": html.escape(f"{content.category}: anomaly detection report"),
        "plain": html.escape(tables.as_text(_as_rows(measured))),
        "data": page.as_data(data),
    }
    page.write(path, "report_template.html", parts)


def _metrics(measured: CategoryMetrics) -> list[dict[str, Any]]:
    intervals = plain_intervals(measured.intervals)
    return [
        _metric(name, metric) | {"interval": intervals.get(name)}
        for name, metric in measured.metrics.items()
        if metric.reason != NO_RECONSTRUCTION
    ]


def _metric(name: str, metric: Metric) -> dict[str, Any]:
    return {
        "name": name,
        "title": tables.title(name),
        "value": metric.value,
        "scale": tables.scale_of(name),
        "reason": metric.reason,
    }


def _by_defect(measured: CategoryMetrics, test: TestSet) -> list[dict[str, Any]]:
    kinds = list(test.defect_types)
    return [
        {
            "defect": kind,
            "count": kinds.count(kind),
            "metrics": [_metric(name, metric) for name, metric in metrics.items()],
        }
        for kind, metrics in measured.by_defect.items()
    ]


def _curves(curves: Curves) -> dict[str, Any]:
    if curves.reason:
        return {"reason": curves.reason}
    return {name: {axis: np.round(values, 5).tolist() for axis, values in p._asdict().items()}
            for name, p in curves.points.items()}  # fmt: skip


def _photos(test: TestSet, measured: CategoryMetrics, scores: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "file": Path(file).name,
            "defect": kind,
            "anomalous": bool(label),
            "score": float(score),
            "aupimo": aupimo,
            "pictures": [],
        }
        for file, kind, label, score, aupimo in zip(
            test.files, test.defect_types, test.labels, scores, measured.aupimo_of_photos,
            strict=True,
        )
    ]  # fmt: skip


def _add_pictures(photos: list[dict[str, Any]], content: Content) -> None:
    """Adds pictures, to the most wrongly ranked photos first, until the budget is spent."""
    labels, scores = content.test.labels, content.scores
    quality, left = _quality(content), _BUDGET
    wrong_first = np.argsort(np.where(labels, scores, -scores), kind="stable")
    for i in wrong_first[wrong_first < len(content.test.photos)].tolist():
        encoded = {title: _jpeg(tile, quality) for title, tile in _tiles(content, i).items()}
        left -= sum(map(len, encoded.values()))
        if left < 0:
            return
        photos[i]["pictures"] = [
            {"title": title, "jpeg": base64.b64encode(data).decode()}
            for title, data in encoded.items()
        ]


def _quality(content: Content) -> int:
    """The best JPEG quality at which all pictures fit, by a sample; else the lowest."""
    count = len(content.test.photos)
    sample = range(0, count, max(1, count // _SAMPLE))
    for quality in _QUALITIES:
        sizes = [sum(len(_jpeg(tile, quality)) for tile in _tiles(content, i).values())
                 for i in sample]  # fmt: skip
        if sum(sizes) * count <= 0.9 * _BUDGET * len(sizes):
            break
    return quality


def _tiles(content: Content, i: int) -> dict[str, np.ndarray]:
    """{title: [s, s, 3] uint8} of one photo."""
    photo, test = content.test.photos[i], content.test
    overlay = pictures.overlay(photo, content.maps[i], content.scale)
    tiles = {"input": photo, "anomaly map": overlay}
    tiles |= {title: column[i] for title, column in content.columns.items()}
    if test.masks is not None and test.labels[i]:
        tiles["ground truth"] = _outlined(photo, test.masks[i])
    return tiles


def _outlined(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """White where anomalous, over the darkened photo, so that both can be seen."""
    dark = np.uint8(0.35 * photo)
    return np.where(mask[..., None], np.uint8(255), dark)


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """[h, w, 3] uint8 as a JPEG; colours of small pictures at full resolution."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.LANCZOS)
    small = max(image.size) < _MAX_SIDE
    image.save(file, "JPEG", quality=quality, subsampling=0 if small else 2)
    return file.getvalue()


def _as_rows(measured: CategoryMetrics) -> tables.Table:
    """All metrics, one a row, for a reader whose program runs no scripts."""
    rows = [
        (tables.title(name), tables.shown(name, metric, measured.intervals.get(name)))
        for name, metric in measured.metrics.items()
    ]
    notes = [f"{n}: {f.reason}" for n, f in measured.metrics.items() if f.reason]
    return tables.Table("Metrics", ("metric", "value"), rows, notes)
