"""Metrics of each type of defect, against all good test photos."""

from collections.abc import Sequence

import numpy as np

from diffad_jax.evaluation.pixels import Counts
from diffad_jax.evaluation.ranking import Labels, Metric, Scores, image_metrics

_PIXEL_NAMES = ("pixel_auroc", "pixel_ap")


def metrics_by_defect(
    defect_types: Sequence[str],
    labels: Labels,
    scores: Scores,
    counts: Counts | str,
) -> dict[str, dict[str, Metric]]:
    """Image and pixel metrics over the good photos and those of one type, by type in order of name.

    Args:
      defect_types: n names; those of good photos are not read.
      labels, scores: of the photos.
      counts: of the photos' pixels, good photos of one kind and each type of another; or why
        there are none.
    """
    types = np.array(defect_types, dtype=object)
    metrics = {}
    for name in sorted(set(types[labels])):
        chosen = ~labels | (types == name)
        if isinstance(counts, str):
            of_pixels = dict.fromkeys(_PIXEL_NAMES, Metric(None, counts))
        else:
            found = counts.metrics(chosen)
            of_pixels = {n: found[n] for n in _PIXEL_NAMES}
        metrics[name] = image_metrics(labels[chosen], scores[chosen]) | of_pixels
    return metrics
