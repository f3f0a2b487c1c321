"""The files of an evaluation: ``table.md``, ``table.tex``, a category's entry in ``metrics.json``,
and the words that explain the metrics in each."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from diffad_jax.data import pictures
from diffad_jax.evaluation import metrics, metrics_file, page, report, stand_in, tables
from diffad_jax.evaluation.confusion import Confusion
from diffad_jax.evaluation.ranking import Labels, Metric
from diffad_jax.inference.calibration import Calibration
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import files
from diffad_jax.types import height_width

TEST_LABELS = "test labels"
_FID = "FID compares the reconstructions of the test photos with the normal training photos"
_WITH_INTERVALS = (
    "image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Result:
    """The results of one category's evaluation."""

    labels: Labels
    defect_types: Sequence[str]  # n
    measured: metrics.CategoryMetrics
    calibration: Calibration
    weights: str  # their hash
    cost: Mapping[str, Metric]
    test_photos: str  # which, see ``fingerprint.describe_photos``
    verdicts: list[tuple[report.Verdict, Confusion]]  # the held-out threshold first
    drawn: stand_in.StandIns | None = None  # what stood in for test photos, where there are none


def extras(config: ml_collections.ConfigDict, result: Result) -> dict[str, Any]:
    """The other entries of one category in ``metrics.json``, beside its metrics."""
    measured, calibration = result.measured, result.calibration
    threshold = calibration.threshold
    kinds = list(result.defect_types)
    return {
        "num_normal": int(np.sum(~result.labels)),
        "num_anomalous": int(np.sum(result.labels)),
        "mask_rule": config.evaluation.mask_rule,
        "test_photos": result.test_photos,
        "weights": result.weights,
        "cost": metrics_file.plain(result.cost),
        **({"fid_compares": _FID} if get_method(config).reconstructs else {}),
        "threshold": Metric(threshold, calibration.why_no_threshold if threshold is None else ""),
        "false_alarms": calibration.false_alarms._asdict() if calibration.false_alarms else None,
        **{
            f"{name}_threshold": Metric(value, "" if value is not None else "F1-max is undefined")
            for name, value in measured.f1_max_thresholds.items()
        },
        "f1_max_thresholds_chosen_on": TEST_LABELS,
        "intervals": metrics_file.plain_intervals(measured.intervals),
        "by_defect": {
            kind: metrics_file.plain(found, {"num_photos": kinds.count(kind)})
            for kind, found in measured.by_defect.items()
        },
        "verdicts": [
            {
                "threshold": verdict.value,
                "chosen_on": verdict.chosen_on,
                "used_test_labels": verdict.used_test_labels,
                **metrics_file.plain_confusion(counts),
            }
            for verdict, counts in result.verdicts
        ],
    }


def describe(result: Result) -> list[str]:
    """A sentence on the threshold, chosen without test photos, and one on its verdicts."""
    calibration = result.calibration
    if calibration.threshold is None:
        return [f"no verdicts: {calibration.why_no_threshold}"]
    verdict, c = result.verdicts[0]
    said = f"threshold {verdict.value:.4g}, from {verdict.chosen_on}; {verdict.expects}"
    if result.drawn is not None:
        return [said, result.drawn.describe(calibration.threshold)]
    return [
        said,
        f"{c.true_positives} of {c.true_positives + c.false_negatives} defects found, "
        f"{c.false_positives} of {c.false_positives + c.true_negatives} good photos called "
        "anomalous",
    ]


def mask_rule(config: ml_collections.ConfigDict) -> str:
    """The rule's name and what it says."""
    rule = config.evaluation.mask_rule
    return f"{rule}: {report.MASK_RULES[rule]}"


def conditions(config: ml_collections.ConfigDict) -> str:
    """Settings that must be equal for metrics of two runs to be compared."""
    height, width = height_width(config.image_size)
    rule = config.evaluation.mask_rule
    return f"photos of {width} × {height} pixels, mask rule {rule}, seed {config.seed}"


def settings(
    config: ml_collections.ConfigDict, calibration: Calibration, tested: bool
) -> dict[str, str]:
    """Notes for readers of a report; ``tested``: whether there were test photos."""
    rule = calibration.why_no_threshold if calibration.threshold is None else (
        f"the score that about {100 * calibration.false_alarm_rate:g} % of new good photos exceed, "
        f"by {calibration.describe_photos()}; {calibration.false_alarms.describe()}"
    )  # fmt: skip
    outliers = calibration.describe_outliers()
    method = get_method(config)
    words = {
        "method": config.method,
        "photos": "resized to {1} × {0} pixels".format(*height_width(config.image_size)),
        **method.describe(config),
        "threshold": rule,
        **({"outliers": outliers} if outliers else {}),
        "colours": _colours(calibration.scale),
        "seed": str(config.seed),
    }
    if not tested:
        return words
    return words | {
        "mask rule": mask_rule(config),
        "intervals": "95 %, over 1000 resamples of the test photos within each class",
        **({"FID": _FID.removeprefix("FID ")} if method.reconstructs else {}),
    }


def _colours(scale: pictures.Scale) -> str:
    """Notes for readers of the maps."""
    text = (
        f"blue up to {scale.middle:.4g}, the darker the lower, down to {scale.low:.4g}; warm "
        f"above, yellow from {scale.high:.4g} on"
    )
    if scale.threshold is None:
        return text
    outlined = f"outlined above the pixel threshold of {scale.threshold:.4g}"
    return f"{text}; {outlined}. {page.SMALL_OUTLINES}"


def write_tables(
    config: ml_collections.ConfigDict,
    workdir: Path,
    results: Mapping[str, Result],
    compared: Sequence[tables.Table],
) -> None:
    """``table.md`` and ``table.tex``; ``compared`` go last."""
    found = {c: r.measured.metrics for c, r in results.items()}
    more = [n for n in next(iter(found.values())) if n not in _WITH_INTERVALS]
    intervals = {c: r.measured.intervals for c, r in results.items()}
    types = {(c, t): f for c, r in results.items() for t, f in r.measured.by_defect.items()}
    counts = {(c, t): list(results[c].defect_types).count(t) for c, t in types}
    written = [
        tables.metrics_table(found, _WITH_INTERVALS, intervals),
        tables.metrics_table(found, more, heading="More metrics"),
        tables.by_defect_table(types, counts),
        tables.verdicts_table({(c, v.chosen_on): (v.value, counted)
                               for c, r in results.items() for v, counted in r.verdicts}),
        *compared,
    ]  # fmt: skip
    rules = [
        "Shares in per cent, 95 % intervals in brackets.",
        f"Mask rule {mask_rule(config)}.",
        f"This run: {conditions(config)}.",
        f"A threshold chosen on {TEST_LABELS} flatters; the other saw no test photo.",
        *([f"{_FID}."] if get_method(config).reconstructs else []),
    ]
    markdown = [
        "# Evaluation",
        "",
        *(f"- {r}" for r in rules),
        "",
        *map(tables.as_markdown, written),
    ]
    files.write_whole(workdir / "table.md", "\n".join(markdown))
    latex = ["% needs \\usepackage{booktabs}", *(f"% {r}" for r in rules), ""]
    latex += map(tables.as_latex, written)
    files.write_whole(workdir / "table.tex", "\n".join(latex))
