"""Figures of each type of defect, against all good test photos."""

from collections.abc import Sequence

import numpy as np

from diffad_jax.evaluation.ranking import Figure, image_figures, pixel_figures


def figures_by_defect(
    defect_types: Sequence[str],
    labels: np.ndarray,
    scores: np.ndarray,
    masks: np.ndarray | None,
    maps: np.ndarray,
) -> dict[str, dict[str, Figure]]:
    """Image and pixel figures over the good photos and those of one type, by type in order of name.

    Args:
      defect_types: n names; those of good photos are not read.
      labels: [n] bool, true where anomalous.
      scores: [n], larger is more anomalous.
      masks: [n, h, w] bool, true where anomalous; None where defect photos lack them.
      maps: [n, h, w], larger is more anomalous.
    """
    types = np.array(defect_types, dtype=object)
    figures = {}
    for name in sorted(set(types[labels])):
        chosen = ~labels | (types == name)
        of_pixels = pixel_figures(None if masks is None else masks[chosen], maps[chosen])
        figures[name] = image_figures(labels[chosen], scores[chosen]) | of_pixels
    return figures
