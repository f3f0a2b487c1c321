"""Metrics as tables: for the terminal, in Markdown, in LaTeX."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from diffad_jax.evaluation.bootstrap import Interval
from diffad_jax.evaluation.confusion import Confusion
from diffad_jax.evaluation.metrics import DEFINITIONS
from diffad_jax.evaluation.paper_results import CATEGORIES, MEAN, METHODS, Published, published
from diffad_jax.evaluation.ranking import Metric, mean_metrics

Metrics = Mapping[str, Metric]
SHORT = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_pro")  # fit a terminal
GAP = "–"
NOT_LISTED = "not listed"
_ACRONYMS = ("auroc", "ap", "pro", "f1", "fid", "psnr", "aupimo")
_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "–": "--", "×": r"$\times$", "…": r"\dots{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as text; the first ``num_labels`` columns name a row, the others hold its metrics."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: Sequence[str] = ()
    num_labels: int = 1


def metrics_table(
    categories: Mapping[str, Metrics],
    names: Iterable[str],
    intervals: Mapping[str, Mapping[str, Interval]] | None = None,
    heading: str = "Metrics",
) -> Table:
    """Categories down, metrics across, their mean last, reasons for gaps below.

    Shares are in per cent, ratios of powers in dB (see ``title``).

    Args:
      categories: the metrics of each, with the same names; at least one.
      names: of the metrics to show.
      intervals: of each category, to stand behind the values.
      heading: the table's title.
    """
    names = list(names)
    lines = {c: {n: f[n] for n in names} for c, f in categories.items()}
    if len(categories) > 1:
        lines["mean"] = mean_metrics(lines.values())
    intervals = intervals or {}
    rows = [
        (c, *(shown(n, metric, intervals.get(c, {}).get(n)) for n, metric in f.items()))
        for c, f in lines.items()
    ]
    notes = [note for c, f in lines.items() for note in _notes(c, f)]
    return Table(heading, ("category", *map(title, names)), rows, notes)


def by_defect_table(
    types: Mapping[tuple[str, str], Metrics], counts: Mapping[tuple[str, str], int]
) -> Table:
    """A row for each defect type: its photos against all good ones.

    Args:
      types: {(category, defect type): its metrics}.
      counts: {(category, defect type): how many photos}.
    """
    names = next((list(f) for f in types.values()), [])
    rows = [
        (*key, str(counts[key]), *(shown(n, metric) for n, metric in f.items()))
        for key, f in types.items()
    ]
    notes = [note for key, f in types.items() for note in _notes("/".join(key), f)]
    header = ("category", "defect", "photos", *map(title, names))
    return Table("Each type of defect against all good photos", header, rows, notes, num_labels=2)


def verdicts_table(verdicts: Mapping[tuple[str, str], tuple[float | None, Confusion]]) -> Table:
    """The right and wrong verdicts of thresholds on the test photos.

    Args:
      verdicts: {(category, the photos that chose the threshold): (threshold, verdicts at it)}.
    """
    rows = []
    for key, (threshold, c) in verdicts.items():
        counts = (c.true_positives, c.false_negatives, c.false_positives, c.true_negatives)
        shares = (shown("precision", c.precision), shown("recall", c.recall))
        rows.append((*key, f"{threshold:.6g}", *map(str, counts), *shares))
    header = ("category", "threshold chosen on", "threshold", "found", "missed", "false alarms",
              "rightly passed", "precision", "recall")  # fmt: skip
    return Table("Verdicts on the test photos", header, rows, num_labels=2)


def comparison_table(
    categories: Mapping[str, Metrics], differences: Mapping[str, str], conditions: str
) -> Table:
    """Published metrics of MVTec AD next to ours.

    Args:
      categories: the metrics of each.
      differences: for a category whose photos are not MVTec AD's, the reason. It then has no
        published metrics, whatever its name. Empty or absent otherwise.
      conditions: of our measurements, in words.
    """
    lines = []
    of_mvtec = [c for c in categories if not differences.get(c)]
    for category, metrics in categories.items():
        known = {m: published(m, category) for m in METHODS} if category in of_mvtec else {}
        lines.append((category, known, _ours(metrics)))
    if of_mvtec:
        whole = set(of_mvtec) == set(CATEGORIES) == set(categories)
        ours = _ours(mean_metrics(categories.values())) if whole else ("not run",) * 3
        lines.append((f"mean of {len(CATEGORIES)}", MEAN, ours))
    rows = []
    for category, known, ours in lines:
        rows += [(category, f"{m} *", *_as_printed(printed)) for m, printed in known.items()]
        rows.append((category, "this run", *ours))
    header = ("category", "method", "image AUROC", "pixel AUROC", "pixel AP")
    notes = [
        *(["* as published on MVTec AD, not run here"] if of_mvtec else []),
        f"this run: {conditions}",
        *(f"{c}: no published metrics, since its photos are not MVTec AD's: {why}"
          for c, why in differences.items() if why),
    ]  # fmt: skip
    return Table("Next to published metrics", header, rows, notes, num_labels=2)


def as_text(table: Table) -> str:
    """Aligned by spaces, notes below."""
    rows = [table.header, *table.rows]
    widths = [max(len(r[i]) for r in rows) for i in range(len(table.header))]
    aligned = [str.ljust] * table.num_labels + [str.rjust] * (len(widths) - table.num_labels)
    lines = [
        "  ".join(align(cell, w) for align, cell, w in zip(aligned, row, widths, strict=True))
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*(line.rstrip() for line in lines), *table.notes])


def as_markdown(table: Table) -> str:
    """A heading, the table, its notes as a list."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(_in_markdown(cell) for cell in cells) + " |"

    rule = ["---"] * table.num_labels + ["---:"] * (len(table.header) - table.num_labels)
    lines = [f"## {table.title}", "", line(table.header), f"|{'|'.join(rule)}|"]
    notes = [f"- {_in_markdown(note)}" for note in table.notes]
    return "\n".join([*lines, *map(line, table.rows), *(["", *notes] if notes else []), ""])


def as_latex(table: Table) -> str:
    """A ``table`` with a ``tabular`` in it, in the manner of the package booktabs."""

    def line(cells: Iterable[str]) -> str:
        return " & ".join(map(_in_latex, cells)) + r" \\"

    columns = "l" * table.num_labels + "r" * (len(table.header) - table.num_labels)
    caption = ". ".join([table.title, *(note.removesuffix(".") for note in table.notes)])
    return "\n".join([
        r"\begin{table}", rf"\caption{{{_in_latex(caption)}.}}", rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule", line(table.header), r"\midrule", *map(line, table.rows), r"\bottomrule",
        r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def title(name: str) -> str:
    """A metric's name for people: ``pixel_f1_max`` is "pixel F1 max"; dB where it is in dB."""
    if name in DEFINITIONS:
        return DEFINITIONS[name].title
    words = " ".join(w.upper() if w in _ACRONYMS else w for w in name.split("_"))
    return words + (" (dB)" if name.endswith("_psnr") else "")


def shown(name: str, metric: Metric, interval: Interval | None = None) -> str:
    """Shares × 100, others as they are; the interval, if defined, in brackets."""
    if metric.value is None:
        return "not available" if name.startswith("fid_") else GAP
    scale = scale_of(name)
    text = f"{scale * metric.value:.2f}"
    low, high = (None, None) if interval is None else (interval[0].value, interval[1].value)
    if low is None or high is None:
        return text
    return f"{text} [{scale * low:.2f}, {scale * high:.2f}]"


def scale_of(name: str) -> float:
    """The factor of a metric when it is shown: 100 for shares, 1 for dB and distances."""
    if name in DEFINITIONS:
        return DEFINITIONS[name].scale
    return 1.0 if name.endswith("_psnr") or name.startswith("fid_") else 100.0


def _ours(metrics: Metrics) -> tuple[str, ...]:
    return tuple(shown(n, metrics[n]) for n in ("image_auroc", "pixel_auroc", "pixel_ap"))


def _as_printed(known: Published | None) -> tuple[str, ...]:
    return (NOT_LISTED,) * 3 if known is None else tuple(f"{v:.1f}" for v in known)


def _notes(category: str, metrics: Metrics) -> list[str]:
    """One line for each reason, however many metrics share it."""
    sharing: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        if metric.reason:
            sharing.setdefault(metric.reason, []).append(name)
    return [f"{category}: {', '.join(names)}: {reason}" for reason, names in sharing.items()]


def _in_markdown(text: str) -> str:
    for special in "\\`*_|<[":
        text = text.replace(special, f"\\{special}")
    return " ".join(text.split())  # a line break would end the row


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)
