"""Pictures of results: heat maps, overlays, contact sheets.

Exported models carry a copy of this file, so it needs NumPy and Pillow alone.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MIN_TILE, _MAX_TILE = 160, 256  # pixels; photos between the two are shown as they are
_GAP, _CAPTION, _HEADER, _FONT_SIZE = 6, 34, 24, 14
# Dark to light blue up to the threshold, red over orange to yellow above it. Colour-blind eyes tell
# these hues apart, and each half gets evenly lighter, in grey print too. It ends in yellow, because
# a pale end would vanish on a white product.
_CALM = [[10, 12, 40], [24, 52, 110], [70, 120, 190]]
_WARM = [[205, 50, 40], [242, 140, 40], [250, 245, 70]]
_UNDEFINED = (230, 0, 200)  # NaN; no colour of the map is near it
_STRIP = 2**20  # pixels that are drawn at a time: drawing takes many times their memory


class Scale(NamedTuple):
    """How colours stand for a map's values: one scale for each detector, not for each photo.

    Colours are calm up to the threshold and warm above it. The threshold lies in the middle of the
    colours. Places above it are outlined.
    """

    low: float  # the first colour
    high: float  # the last one
    threshold: float | None = None  # None: nothing is outlined, and the middle is half way

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2 if self.threshold is None else self.threshold


def gradient() -> list[tuple[float, list[int]]]:
    """The colours of maps from the lowest to the highest: (per cent, RGB); they jump at 50."""
    places = [*np.linspace(0, 50, len(_CALM)), *np.linspace(50, 100, len(_WARM))]
    return list(zip(places, [*_CALM, *_WARM], strict=True))


def _colours() -> np.ndarray:
    """[257, 3] uint8: 128 calm colours, 128 warm ones, then that of NaN."""
    halves = []
    for stops in (_CALM, _WARM):
        places = np.linspace(0, 127, len(stops))
        channels = [np.interp(np.arange(128), places, c) for c in zip(*stops, strict=True)]
        halves.append(np.round(np.stack(channels, axis=-1)))
    return np.concatenate([*halves, [_UNDEFINED]]).astype(np.uint8)


_COLOURS = _colours()
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclasses.dataclass(frozen=True)
class Row:
    """One photo on a contact sheet."""

    caption: str
    tiles: Sequence[np.ndarray]  # each [h, w, 3] uint8; the last columns may have none


def heat_map(anomaly_map: np.ndarray, scale: Scale) -> np.ndarray:
    """The colours of a map [h, w]: [h, w, 3] uint8. Values beyond the scale are clipped."""
    return _in_strips(lambda m: _COLOURS[_index(m, scale)], anomaly_map)


def overlay(photo: np.ndarray, anomaly_map: np.ndarray, scale: Scale) -> np.ndarray:
    """The photo under the map's colours, with an outline around places above the threshold.

    A pixel is covered in proportion to how anomalous it is (and where it is NaN), never wholly.

    Args:
      photo: [h, w, 3] uint8.
      anomaly_map: [a, b] of any size; stretched to the photo's.
      scale: of the map.

    Returns:
      [h, w, 3] uint8.
    """

    def mix(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
        index = _index(values, scale)
        opacity = _OPACITY[index][..., None]
        return np.round((1 - opacity) * pixels + opacity * _COLOURS[index]).astype(np.uint8)

    size = photo.shape[1::-1]
    drawn = _in_strips(mix, photo, stretched(anomaly_map, size))
    if scale.threshold is not None:
        _outline(drawn, above(anomaly_map, scale.threshold, size))
    return drawn


def above(anomaly_map: np.ndarray, threshold: float, size: tuple[int, int]) -> np.ndarray:
    """Where a map is above its threshold, as large as the photo: [height, width] bool.

    Args:
      anomaly_map: [a, b] of any size.
      threshold: of its values.
      size: (width, height) of the photo.
    """
    # The region is stretched, not the map, in which a single high value would sink too low.
    return stretched(np.uint8(255 * (anomaly_map > threshold)), size) > 127


def stretched(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[a, b, …] uint8 or float32 at another (width, height), from the nearest pixels."""
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def legend(picture: np.ndarray, text: str, scale: Scale) -> np.ndarray:
    """The picture, with a line of text and a bar of its colours with their values below it.

    Args:
      picture: [h, w, 3] uint8; it stays at the top left.
      text: such as ``verdict`` gives.
      scale: of the colours; the bar marks its threshold.

    Returns:
      [h + k, w or as wide as the text, 3] uint8.
    """
    height, width = picture.shape[:2]
    font = ImageFont.load_default(max(round(min(width / 24, height / 12)), 11))
    width = max(width, round(font.getlength(text)) + 2 * _GAP)
    strip = Image.new("RGB", (width, round(4.4 * font.size)), "white")
    ImageDraw.Draw(strip).text((_GAP, 0.3 * font.size), text, "black", font)
    _draw_bar(strip, round(1.7 * font.size), scale, font)
    sheet = np.full((height + strip.height, width, 3), 255, np.uint8)
    sheet[:height, : picture.shape[1]] = picture
    sheet[height:] = strip
    return sheet


def verdict(score: float, threshold: float | None) -> str:
    """A photo's score, its threshold and its verdict, in words."""
    if threshold is None:
        return f"score {score:.4g} (no threshold)"
    found = "anomalous" if score > threshold else "normal"
    return f"{found}: score {score:.4g} (threshold {threshold:.4g})"


def _index(values: np.ndarray, scale: Scale) -> np.ndarray:
    """The index of each value's colour."""
    least = np.finfo(np.float32).tiny
    calm = (values - scale.low) / max(scale.middle - scale.low, least)
    warm = (values - scale.middle) / max(scale.high - scale.middle, least)
    part = np.where(values > scale.middle, warm, calm)
    index = np.round(127 * np.clip(np.nan_to_num(part), 0, 1)).astype(np.uint16)
    return np.where(np.isnan(values), 256, index + 128 * (values > scale.middle))


# How much each colour covers the photo: not at all far below the threshold.
_OPACITY = np.concatenate(
    [np.clip(np.linspace(-0.35, 0.35, 128), 0, 1), np.linspace(0.3, 0.5, 128), [0.5]]
).astype(np.float32)


def _in_strips(draw: Callable[..., np.ndarray], *whole: np.ndarray) -> np.ndarray:
    """``draw`` of arrays [h, w, …], a few rows at a time: [h, w, 3] uint8."""
    height, width = whole[0].shape[:2]
    drawn = np.empty((height, width, 3), np.uint8)
    rows = max(_STRIP // max(width, 1), 1)
    for i in range(0, height, rows):
        drawn[i : i + rows] = draw(*(x[i : i + rows] for x in whole))
    return drawn


def _outline(drawn: np.ndarray, region: np.ndarray) -> None:
    """Draws a line around each part of a region [h, w], visible on any product.

    It is yellow, with black around the yellow: one of the two stands out on any product. Each is a
    128th of the photo's shorter side wide (a pixel at least), so that the smallest region shows.
    """
    width = max(round(min(region.shape) / 128), 1)
    yellow = _grown(region, width)
    drawn[_grown(yellow, width) & ~yellow] = (0, 0, 0)
    drawn[yellow & ~region] = _COLOURS[255]


def _grown(region: np.ndarray, by: int) -> np.ndarray:
    """The region, grown by ``by`` pixels along both axes."""
    grown = region.copy()
    for axis in (0, 1):
        done = 0
        while done < by:
            step = min(max(done, 1), by - done)
            before, lines = grown.swapaxes(0, axis).copy(), grown.swapaxes(0, axis)
            lines[step:] |= before[:-step]
            lines[:-step] |= before[step:]
            done += step
    return grown


def _draw_bar(strip: Image.Image, top: int, scale: Scale, font: _Font) -> None:
    """A bar of all colours across the strip, with the scale's values below it."""
    draw, thick = ImageDraw.Draw(strip), max(round(0.7 * font.size), 4)
    left, right = _GAP, strip.width - _GAP
    levels = np.round(np.linspace(0, 255, right - left)).astype(int)
    strip.paste(Image.fromarray(np.tile(_COLOURS[levels], (thick, 1, 1))), (left, top))
    labels = [(left, f"{scale.low:.4g}", "la"), (right, f"{scale.high:.4g}", "ra")]
    if scale.threshold is not None:
        middle = (left + right) // 2
        draw.line(((middle, top - 2), (middle, top + thick + 2)), "black", 3)
        draw.line(((middle, top - 2), (middle, top + thick + 2)), "white", 1)
        labels.append((middle, f"pixel threshold {scale.threshold:.4g}", "ma"))
    for x, label, anchor in labels:
        draw.text((x, top + 1.2 * thick), label, "black", font, anchor=anchor)


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


def contact_sheet(
    path: Path, columns: Sequence[str], rows: Sequence[Row], scale: Scale | None = None
) -> np.ndarray:
    """Writes a PNG: column titles, then a caption and a line of tiles for each row.

    Small photos are enlarged by a whole factor, pixel by pixel; large ones are reduced.

    Args:
      path: the file; its folder is made.
      columns: their titles, from left to right.
      rows: from top to bottom; where one has fewer tiles than columns, the rest say "none".
      scale: of the maps on it, for a legend at the bottom.

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
    if scale:
        bar = Image.new("RGB", (width, 3 * _FONT_SIZE), "white")
        _draw_bar(bar, 4, scale, font)
        sheet = Image.fromarray(np.concatenate([sheet, bar]))
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
