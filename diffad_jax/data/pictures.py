"""Pictures of results: heat maps, overlays, contact sheets."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MIN_TILE, _MAX_TILE = 160, 256  # pixels; photos between the two are shown as they are
_GAP, _CAPTION, _HEADER, _FONT_SIZE = 6, 34, 24, 14
# Black over violet and orange to yellow in even steps of lightness (CIE L* 0, 16, 36, 57, 78, 95),
# so that equal differences look equal, in grey print and to colour-blind eyes too. It ends in a
# strong yellow: a pale one would vanish on the overlay of a white product.
_STOPS = [[0, 0, 8], [60, 10, 100], [150, 40, 100], [225, 95, 50], [250, 180, 60], [250, 245, 70]]
_BAR, _LEGEND = 8, 40  # pixels: height of a legend's bar of colours, and of the legend
_UNDEFINED = (0, 190, 190)  # NaN; no colour of the map is near it


def _colours() -> np.ndarray:
    """[257, 3] uint8: the colour of each of 256 levels, then that of NaN."""
    stops = np.linspace(0, 255, len(_STOPS))
    channels = [np.interp(np.arange(256), stops, c) for c in zip(*_STOPS, strict=True)]
    levels = np.round(np.stack(channels, axis=-1))
    return np.concatenate([levels, [_UNDEFINED]]).astype(np.uint8)


_COLOURS = _colours()
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclasses.dataclass(frozen=True)
class Row:
    """One photo on a contact sheet."""

    caption: str
    tiles: Sequence[np.ndarray]  # each [h, w, 3] uint8; the last columns may have none


def heat_map(anomaly_map: np.ndarray, limits: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Colours of a map: black is the first limit, yellow the second, cyan NaN.

    The limits are those of a detector, not of a photo, so that pictures can be compared.

    Args:
      anomaly_map: [h, w]; values beyond the limits are clipped.
      limits: rising; of probabilities 0 and 1.

    Returns:
      [h, w, 3] uint8.
    """
    levels = np.round(255.0 * np.nan_to_num(_level(anomaly_map, limits), nan=0.0))
    return _COLOURS[np.where(np.isnan(anomaly_map), 256, levels.astype(np.uint16))]


def _level(anomaly_map: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """The map between its limits as 0 … 1; NaN stays."""
    low, high = limits
    width = max(high - low, np.finfo(np.float32).tiny)
    return np.clip((anomaly_map.astype(np.float64) - low) / width, 0.0, 1.0)


def overlay(
    image: np.ndarray, anomaly_map: np.ndarray, limits: tuple[float, float] = (0.0, 1.0)
) -> np.ndarray:
    """The heat map over the photo, as opaque as it is anomalous (and where it is NaN).

    Args:
      image: [h, w, 3] uint8.
      anomaly_map, limits: see ``heat_map``.

    Returns:
      [h, w, 3] uint8.

    Raises:
      ValueError: the map is not of the photo's size.
    """
    if image.shape != (*anomaly_map.shape, 3):
        raise ValueError(
            f"a photo of shape {image.shape} needs a map of {image.shape[:2]}, "
            f"got {anomaly_map.shape}"
        )
    level = np.nan_to_num(_level(anomaly_map, limits), nan=1.0)
    opacity = np.float32(0.75) * level.astype(np.float32)[..., None]
    mixed = (1.0 - opacity) * image + opacity * heat_map(anomaly_map, limits)
    return np.round(mixed).astype(np.uint8)


def outline(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The photo with a line around each part of a region, visible on any product.

    The line is yellow inside black, each a 128th of the photo's shorter side wide (a pixel at
    least): one of the two stands out wherever it lies.

    Args:
      image: [h, w, 3] uint8.
      region: [h, w] bool, such as where a map is above its threshold.

    Returns:
      [h, w, 3] uint8.
    """
    from scipy import ndimage  # here, since exported models carry this file without SciPy

    width = max(round(min(region.shape) / 128), 1)
    cross = ndimage.generate_binary_structure(2, 1)
    inside = ndimage.binary_erosion(region, cross, iterations=width, border_value=0)
    around = ndimage.binary_dilation(region, cross, iterations=width)
    drawn = image.copy()
    drawn[around & ~region] = (0, 0, 0)
    drawn[region & ~inside] = _COLOURS[255]
    return drawn


def legend(picture: np.ndarray, text: str, limits: tuple[float, float], mark: float) -> np.ndarray:
    """The picture above a bar of its colours and a line of text.

    Args:
      picture: [h, w, 3] uint8.
      text: such as the score, the threshold and the verdict.
      limits: of the colours, see ``heat_map``.
      mark: a value of the map, such as its threshold, that the bar marks.

    Returns:
      [h + k, max(w, 160), 3] uint8.
    """
    font = ImageFont.load_default(_FONT_SIZE)
    height, width = picture.shape[0], max(picture.shape[1], _MIN_TILE)
    sheet = Image.new("RGB", (width, height + _LEGEND), "white")
    sheet.paste(Image.fromarray(picture), ((width - picture.shape[1]) // 2, 0))
    draw, low, high = ImageDraw.Draw(sheet), *limits
    bar = heat_map(np.tile(np.linspace(low, high, width - 2 * _GAP), (_BAR, 1)), limits)
    sheet.paste(Image.fromarray(bar), (_GAP, height + _GAP))
    x = _GAP + round(float(_level(np.array(mark), limits)) * (width - 2 * _GAP - 1))
    draw.line(((x, height + 2), (x, height + 2 * _GAP + _BAR - 2)), "black", 3)
    draw.line(((x, height + 2), (x, height + 2 * _GAP + _BAR - 2)), "white", 1)
    top = height + 2 * _GAP + _BAR
    draw.text((_GAP, top), _shortened(text, font, width - 2 * _GAP), "black", font)
    return np.asarray(sheet)


def pick_cases(labels: np.ndarray, scores: np.ndarray, count: int) -> list[tuple[str, int]]:
    """The best, median and worst ranked photos of either class.

    Best are defects of high score and normal photos of low score. NaN is always worst.

    Args:
      labels: [n] bool, true where anomalous.
      scores: [n].
      count: of each kind; fewer where a class is small. No photo is shown twice.

    Returns:
      (what, index) pairs, such as ("best defect", 7): defects first, each class from best to worst.
    """
    cases = []
    for name, is_class, sign in (("defect", labels, -1.0), ("normal", ~labels, 1.0)):
        of_class = np.flatnonzero(is_class)
        # From most right to most wrong; argsort puts NaN last.
        ranked = of_class[np.argsort(sign * scores[of_class], kind="stable")].tolist()
        best = ranked[:count]
        worst = ranked[count:][-count:]
        between = ranked[count : len(ranked) - len(worst)]
        start = max((len(between) - count) // 2, 0)
        groups = (("best", best), ("median", between[start : start + count]), ("worst", worst))
        cases += [(f"{kind} {name}", i) for kind, group in groups for i in group]
    return cases


def contact_sheet(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> np.ndarray:
    """Writes a PNG: column titles, then a caption and a line of tiles for each row.

    Small photos are enlarged by a whole factor, pixel by pixel; large ones are reduced.

    Args:
      path: the file; its folder is made.
      columns: their titles, from left to right.
      rows: from top to bottom; where one has fewer tiles than columns, the rest say "none".

    Returns:
      What was written: [height, width, 3] uint8.

    Raises:
      ValueError: a row has more tiles than there are columns.
    """
    tiles = [[_fitted(tile) for tile in row.tiles] for row in rows]
    if any(len(line) > len(columns) for line in tiles):
        raise ValueError(f"a row of the contact sheet has more tiles than columns: {columns}")
    tile_width = max((t.width for line in tiles for t in line), default=_MIN_TILE)
    tile_height = max((t.height for line in tiles for t in line), default=_MIN_TILE)
    font = ImageFont.load_default(_FONT_SIZE)
    width = len(columns) * (tile_width + _GAP) + _GAP
    height = _HEADER + len(rows) * (tile_height + _CAPTION) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    lefts = [_GAP + j * (tile_width + _GAP) for j in range(len(columns))]
    for left, title in zip(lefts, columns, strict=True):
        draw.text((left, 4), _shortened(title, font, tile_width), "black", font)
    for i, (row, line) in enumerate(zip(rows, tiles, strict=True)):
        top = _HEADER + i * (tile_height + _CAPTION)
        caption = _shortened(row.caption, font, width - 2 * _GAP)
        draw.text((_GAP, top + 12), caption, "black", font)
        top += _CAPTION
        for j, left in enumerate(lefts):
            # Framed: a photo's background is often as white as the sheet.
            corner = (left + tile_width, top + tile_height)
            draw.rectangle(((left - 1, top - 1), corner), outline="silver")
            if j < len(line):
                sheet.paste(line[j], (left, top))
            else:
                middle = (left + tile_width // 2, top + tile_height // 2)
                draw.text(middle, "none", "dimgrey", font, anchor="mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return np.asarray(sheet)


def to_bytes(image: np.ndarray) -> np.ndarray:
    """float in [0, 1] to uint8, any shape; NaN becomes 0."""
    return np.round(255.0 * np.clip(np.nan_to_num(image, nan=0.0), 0.0, 1.0)).astype(np.uint8)


def _fitted(pixels: np.ndarray) -> Image.Image:
    """[h, w, 3] uint8 at a size to look at, its longer side within _MIN_TILE and _MAX_TILE."""
    image, longest = Image.fromarray(pixels), max(pixels.shape[:2])
    if longest > _MAX_TILE:
        image.thumbnail((_MAX_TILE, _MAX_TILE), Image.Resampling.LANCZOS)
        return image
    factor = -(-_MIN_TILE // longest)
    return image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)


def _shortened(text: str, font: _Font, width: int) -> str:
    """The text without its middle where it is wider than ``width`` pixels."""
    text = text.encode("utf-8", "replace").decode()  # a file's name may hold any bytes
    shown, kept = text, len(text)
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = text[: kept // 2] + " ... " + text[-(kept // 2) :]
    return shown
