"""Pictures of results: heat maps, overlays, contact sheets."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_TILE, _GAP, _CAPTION, _HEADER = 160, 6, 34, 24
# Dark violet to yellow, lightness rising evenly.
_STOPS = np.array(
    [[0, 0, 8], [60, 10, 100], [150, 40, 100], [225, 95, 50], [250, 180, 60], [250, 250, 200]]
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One photo on a contact sheet."""

    caption: str
    tiles: Sequence[np.ndarray]  # each [h, w, 3] uint8


def heat_map(anomaly_map: np.ndarray) -> np.ndarray:
    """[h, w] in [0, 1] -> [h, w, 3] uint8; the scale is fixed, so pictures can be compared."""
    levels = np.clip(anomaly_map, 0.0, 1.0)
    stops = np.linspace(0.0, 1.0, len(_STOPS))
    channels = [np.interp(levels, stops, _STOPS[:, i]) for i in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def overlay(image: np.ndarray, anomaly_map: np.ndarray) -> np.ndarray:
    """The heat map over the photo, as opaque as it is anomalous: uint8 [h, w, 3]."""
    opacity = 0.75 * np.clip(anomaly_map, 0.0, 1.0)[..., None]
    mixed = (1.0 - opacity) * image + opacity * heat_map(anomaly_map)
    return np.round(mixed).astype(np.uint8)


def pick_cases(labels: np.ndarray, scores: np.ndarray, count: int) -> list[tuple[str, int]]:
    """The best, median and worst ranked photos of either class: (what, index).

    Args:
      labels: [n] bool, true where anomalous.
      scores: [n].
      count: of each kind; fewer where a class is small. No photo is shown twice.
    """
    picked: dict[int, str] = {}
    for anomalous, name in ((True, "defect"), (False, "normal")):
        of_class = np.flatnonzero(labels == anomalous)
        ranked = of_class[np.argsort(scores[of_class], kind="stable")]
        ranked = ranked[::-1] if anomalous else ranked  # from most right to most wrong
        start = max((len(ranked) - count) // 2, 0)
        groups = (
            ("best", ranked[:count]),
            ("worst", ranked[::-1][:count]),
            ("median", ranked[start : start + count]),
        )
        for kind, indices in groups:
            for i in indices:
                picked.setdefault(int(i), f"{kind} {name}")
    order = {"best": 0, "median": 1, "worst": 2}
    cases = [(what, i) for i, what in picked.items()]
    return sorted(cases, key=lambda case: (case[0].split()[1], order[case[0].split()[0]]))


def contact_sheet(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Writes a PNG: column titles, then a caption and a line of tiles a row."""
    font = ImageFont.load_default(13)
    width = len(columns) * (_TILE + _GAP) + _GAP
    height = _HEADER + len(rows) * (_TILE + _CAPTION) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for j, title in enumerate(columns):
        draw.text((_GAP + j * (_TILE + _GAP), 4), title, "black", font)
    for i, row in enumerate(rows):
        top = _HEADER + i * (_TILE + _CAPTION)
        draw.text((_GAP, top + 12), row.caption, "black", font)
        for j, tile in enumerate(row.tiles):
            enlarged = Image.fromarray(tile).resize((_TILE, _TILE), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (_GAP + j * (_TILE + _GAP), top + _CAPTION))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def to_bytes(image: np.ndarray) -> np.ndarray:
    """float in [0, 1] to uint8."""
    return np.round(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
