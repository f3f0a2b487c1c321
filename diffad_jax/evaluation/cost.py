"""The cost of a method: seconds and memory."""

import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from diffad_jax.evaluation.ranking import Metric
from diffad_jax.methods.train_state import Params
from diffad_jax.runtime import files


def peak_memory_mib() -> float:
    """The most memory that this process has had on the host so far."""
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def of_detector(
    directories: Sequence[Path], weights: Params, seconds_a_photo: float | None
) -> dict[str, Metric]:
    """The cost of a category's training, and its cost at test.

    ``fit_seconds`` adds up the stages, shared ones too; of an interrupted stage only the last run
    counts.

    Args:
      directories: that hold its stages, each with the ``stages.json`` of its training.
      weights: all that prediction needs.
      seconds_a_photo: at test, in batches; None where there were too few photos to tell.
    """
    reports = [files.read_json(directory / "stages.json") for directory in directories]
    stages = [stage for report in reports for stage in report.values()]
    few = "too few test photos: the first batch includes the compilation"
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    return {
        "fit_seconds": _over(sum, stages, "seconds_this_run"),
        "fit_peak_memory_mib": _over(max, stages, "peak_memory_mib"),
        "seconds_a_photo": Metric(seconds_a_photo, few if seconds_a_photo is None else ""),
        "evaluation_peak_memory_mib": Metric(round(peak_memory_mib()), ""),
        "weights_mib": Metric(size / 2**20, ""),
    }


def _over(combined: Callable, stages: list[dict], name: str) -> Metric:
    if not stages or any(stage.get(name) is None for stage in stages):
        return Metric(None, "not trained here, by an earlier version, or by a run that was killed")
    return Metric(combined(stage[name] for stage in stages), "")
