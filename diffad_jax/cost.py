"""What a method costs: seconds and memory."""

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from diffad_jax.evaluation import metrics_file
from diffad_jax.evaluation.ranking import Figure
from diffad_jax.train_state import Params


def peak_memory_mib() -> float:
    """The most memory that this process has had on the host so far."""
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def of_detector(
    directory: Path, weights: Params, seconds_a_photo: float | None
) -> dict[str, Figure]:
    """What a trained category has cost, and what it costs at test.

    ``fit_seconds`` adds up the stages; of one that was interrupted only the last run counts.

    Args:
      directory: the category's, with the ``stages.json`` of its training.
      weights: all that prediction needs.
      seconds_a_photo: at test, in batches; None where there were too few photos to tell.
    """
    stages = list(metrics_file.read(directory / "stages.json").values())
    few = "too few test photos: the first batch includes the compilation"
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    return {
        "fit_seconds": _over(sum, stages, "seconds_this_run"),
        "fit_peak_memory_mib": _over(max, stages, "peak_memory_mib"),
        "seconds_a_photo": Figure(seconds_a_photo, few if seconds_a_photo is None else ""),
        "evaluation_peak_memory_mib": Figure(round(peak_memory_mib()), ""),
        "weights_mib": Figure(size / 2**20, ""),
    }


def _over(combined: Callable, stages: list[dict], name: str) -> Figure:
    if not stages or any(stage.get(name) is None for stage in stages):
        return Figure(None, "not trained here, by an earlier version, or by a run that was killed")
    return Figure(combined(stage[name] for stage in stages), "")
