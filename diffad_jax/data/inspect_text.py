"""The summary of ``inspect`` for a terminal."""

from collections.abc import Sequence
from typing import Any

from diffad_jax.data.inspect import QUANTILES

_TITLES = {"train": "training", "test": "test"}
_STOPS = {
    "train": "training stops there, unless --config.data.on_bad_image=skip leaves them out",
    "test": "evaluation stops there",
}
_SHOWN = 10  # lines of a list; summary.json has them all


def as_text(summary: dict[str, Any]) -> str:
    """Counts, measured with the files' names, and a table of the anomalies' areas.

    Args:
      summary: as ``inspect.inspect_category`` returns it.
    """
    lines = [summary["category"]]
    for split, title in _TITLES.items():
        photos = summary[split]
        held_out = f"; {photos['held_out']} of them held out" if split == "train" else ""
        lines.append(_line(f"{title} photos", _counted(photos["by_type"]) + held_out))
        if photos["sizes"]:
            lines.append(_line("  sizes", _sizes(photos["sizes"])))
            lines.append(_line("  modes", _counted(photos["modes"])))
            lines.append(_line("  formats", _counted(photos["formats"])))
    lines += _list("recommended", summary["advice"], whole=True)
    lines += _list("left out", summary["left_out"], count="as follows")
    lines += _list("to be mended", summary["faults"], whole=True)
    for split, title in _TITLES.items():
        reasons = [u["reason"] for u in summary["unreadable"] if u["split"] == split]
        count = f"{len(reasons)}; {_STOPS[split]}"
        lines += _list(f"unreadable, {title}", reasons, whole=True, count=count)
    for place, title in (*_TITLES.items(), ("across", "both")):
        groups = summary["duplicates"][place]
        lines += _list(f"duplicates, {title}", [" = ".join(group) for group in groups])
    masks, synthesis = summary["masks"], summary["synthesis"]
    lines += _list("defects without mask", masks["missing"])
    lines += _list(f"empty masks ({masks['rule']})", masks["empty"])
    lines += _list("empty once resized", masks["lost_by_resizing"])
    lines += _list("odd masks", masks["problems"])
    values = masks["values"].removeprefix("masks hold the values ") if masks["share"] else "none"
    lines.append(_line("mask values", values))
    if synthesis is None:
        return "\n".join(lines + _areas(masks["share"]))
    lines.append(
        _line(
            "synthesis",
            f"{synthesis['examples']} training examples, {synthesis['normal']} of them normal "
            f"(normal_probability {synthesis['normal_probability']:g}, or an empty mask)",
        )
    )
    return "\n".join(lines + _areas(masks["share"] | {"synthesised": synthesis["share"]}))


def _line(label: str, value: str) -> str:
    return f"  {label:<22}{value}"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items()) or "none"


def _sizes(sizes: dict[str, Any]) -> str:
    if "counts" in sizes:
        return _counted(sizes["counts"])
    sides = (
        f"{side} {sizes[side]['min']} … {sizes[side]['max']}, median {sizes[side]['median']:g}"
        for side in ("width", "height")
    )
    return f"{sizes['distinct']} different ones: " + "; ".join(sides)


def _list(label: str, items: Sequence[str], whole: bool = False, count: str = "") -> list[str]:
    shown = len(items) if whole else _SHOWN
    lines = [_line(label, (count or str(len(items))) if items else "none")]
    lines += [f"    {item}" for item in items[:shown]]
    if len(items) > shown:
        lines.append(f"    and {len(items) - shown} more: see summary.json")
    # A file's name may hold any bytes.
    return [line.encode("utf-8", "replace").decode() for line in lines]


def _areas(spreads: dict[str, dict[str, float] | None]) -> list[str]:
    if not spreads:
        return []
    rows = [("", "count", *QUANTILES)]
    for kind, spread in spreads.items():
        cells = [f"{100 * spread[q]:.3g}" for q in QUANTILES] if spread else []
        rows.append((kind, str(spread["count"] if spread else 0), *cells))
    width = max(len(kind) for kind, *_ in rows)
    table = [
        f"    {kind.ljust(width)}" + "".join(f"{cell:>9}" for cell in cells)
        for kind, *cells in rows
    ]
    return [_line("anomalous area", "per cent of the photo"), *table]
