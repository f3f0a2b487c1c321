"""Several runs in one table: metrics, and what they cost, from each run's ``metrics.json``."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffad_jax.errors import UserError
from diffad_jax.evaluation import tables
from diffad_jax.evaluation.ranking import Metric
from diffad_jax.runtime import regular
from diffad_jax.runtime.files import write_whole
from diffad_jax.types import height_width

_FIGURES = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_pro")
_COSTS = {  # name in metrics.json -> title, format
    "fit_seconds": ("fit, s", ".0f"),
    "seconds_a_photo": ("a photo, s", ".3g"),
    "fit_peak_memory_mib": ("peak at fit, MiB", ".0f"),
    "evaluation_peak_memory_mib": ("peak at test, MiB", ".0f"),
    "weights_mib": ("weights, MiB", ".1f"),
}
_SHARED = ", shared"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root {{ --page: #fbfbfa; --line: #dcdcd8; --text: #1d1f21; --quiet: #5d6268; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #17191b; --line: #3a3f44; --text: #e6e7e8; --quiet: #a2a9b0; }}
}}
body {{
  margin: 0 auto; max-width: 1400px; padding: 28px 20px; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums;
}}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 14px; }}
th, td {{ text-align: right; padding: 5px 0 5px 18px; border-bottom: 1px solid var(--line);
  vertical-align: top; }}
td {{ white-space: nowrap; }}
.label {{ text-align: left; padding-left: 0; padding-right: 12px; }}
tbody th {{ font-weight: 400; }}
ul {{ color: var(--quiet); max-width: 90ch; padding-left: 18px; }}
h1 {{ font-size: 26px; line-height: 1.2; margin: 0 0 12px; }}
@page {{ size: landscape; }}
@media print {{
  body {{ padding: 0; }}
  .scroll {{ overflow: visible; }}
  table {{ font-size: 10px; }}
  th, td {{ padding-left: 8px; }}
  tbody th {{ overflow-wrap: anywhere; }}
  tr {{ break-inside: avoid; }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table>
<thead><tr>{header}</tr></thead>
<tbody>
{rows}
</tbody></table></div>
<ul>
{notes}
</ul>
</body>
</html>
"""


class Run(NamedTuple):
    """The content of one work directory's ``metrics.json``."""

    name: str
    method: str
    image_size: tuple[int, int]  # height, width
    categories: Mapping[str, Mapping[str, Any]]


def read_run(workdir: Path) -> Run:
    """Reads ``metrics.json``; the run's name is the folder as given.

    Raises:
      UserError: there is no such file, or it is none of this program's.
    """
    path = workdir / "metrics.json"
    try:
        content = regular.read_json(path)
        c = content["config"]
        method = c["method"] + (_SHARED if c.get("shared") else "")  # earlier files do not say it
        return Run(str(workdir), method, height_width(c["image_size"]), content["categories"])
    except OSError as error:
        raise UserError(
            f"cannot compare with {workdir}: no readable {path}; evaluate that run first, "
            f"--mode=evaluate --workdir={workdir}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot compare with {workdir}: {path} is no metrics.json of this version ({error}); "
            f"evaluate that run again, --mode=evaluate --workdir={workdir}"
        ) from error


def runs_table(runs: Sequence[Run]) -> tables.Table:
    """A row for each category and run; runs measured in another way than the first are marked.

    Args:
      runs: this run first, then those to compare it with.
    """
    ours, rows, notes = runs[0], [], []
    for category, expected in ours.categories.items():
        for run in runs:
            found = run.categories.get(category)
            if found is None:
                rows.append((category, run.name, run.method, *(["not run"] * _width())))
                continue
            differences = _differences(ours, expected, run, found)
            if differences:
                notes.append(f"* {category}, {run.name}: {'; '.join(differences)}")
            rows.append((category, run.name + (" *" if differences else ""), run.method,
                         *_metrics(found), *_costs(found)))  # fmt: skip
    header = ("category", "run", "method", *map(tables.title, _FIGURES),
              *(title for title, _ in _COSTS.values()))  # fmt: skip
    notes = [
        "Shares in per cent, 95 % intervals in brackets.",
        f"{ours.name}: photos of {_size(ours)} pixels.",
        "Times and memory are those of the machine that each run had; a photo's time is that of "
        "the fastest batch over its size.",
        *dict.fromkeys(notes),
    ]
    if any(run.method.endswith(_SHARED) for run in runs):
        notes.append(
            "shared: categories have networks in common; each row counts these whole, in seconds "
            "of the fit and in MiB of the weights."
        )
    return tables.Table("Runs side by side", header, rows, notes, num_labels=3)


def write_page(path: Path, table: tables.Table) -> None:
    """The table as a page of its own, which loads nothing from elsewhere."""

    def cells(tag: str, row: Sequence[str]) -> str:
        shown = []
        for i, text in enumerate(row):
            label = ' class="label"' if i < table.num_labels else ""
            kind = "th" if tag == "th" or i < table.num_labels else "td"
            broken = html.escape(text).replace(" [", "<br>[")  # an interval below its metric
            shown.append(f"<{kind}{label}>{broken}</{kind}>")
        return "".join(shown)

    page = _PAGE.format(
        title=html.escape(table.title),
        header=cells("th", table.header),
        rows="\n".join(f"<tr>{cells('td', row)}</tr>" for row in table.rows),
        notes="\n".join(f"<li>{html.escape(note)}</li>" for note in table.notes),
    )
    write_whole(path, page)


def _size(run: Run) -> str:
    height, width = run.image_size
    return f"{width} × {height}"


def _width() -> int:
    return len(_FIGURES) + len(_COSTS)


def _metrics(found: Mapping[str, Any]) -> list[str]:
    shown = []
    for name in _FIGURES:
        ends = found["intervals"].get(name, {"low": None, "high": None})
        interval = _metric(ends["low"]), _metric(ends["high"])
        shown.append(tables.shown(name, _metric(found[name]), interval))
    return shown


def _metric(value: float | None) -> Metric:
    return Metric(value, "" if value is not None else "see that run")


def _costs(found: Mapping[str, Any]) -> list[str]:
    costs = found["cost"]
    return [
        tables.GAP if costs[name] is None else format(costs[name], form)
        for name, (_, form) in _COSTS.items()
    ]


def _differences(ours: Run, expected: Mapping, run: Run, found: Mapping) -> list[str]:
    """The reasons why a row's metrics cannot be compared with the first run's, in words."""
    pairs = {
        "photos of {} pixels": (_size(ours), _size(run)),
        "mask rule {}": (expected["mask_rule"], found["mask_rule"]),
        "test photos: {}": (expected["test_photos"], found["test_photos"]),
    }
    return [
        f"{what.format(theirs)}, not {here}"
        for what, (here, theirs) in pairs.items()
        if here != theirs
    ]
