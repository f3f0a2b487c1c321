"""PRO: the area under the per-region-overlap curve.

Bergmann et al., "The MVTec Anomaly Detection Dataset" (IJCV 2021), section 5.2: the mean share of
each defect region that is found, against the share of normal pixels that is falsely reported, up to
a false-positive rate of 0.3, over that area of a perfect detector.
"""

import numpy as np
from scipy import ndimage

from diffad_jax.evaluation import curve
from diffad_jax.evaluation.ranking import NO_MASKS, Figure, chance, undefined

LIMIT = 0.3  # of the false-positive rate, as published
# Pixels that share a side or a corner are of one region; photos are apart.
_NEIGHBOURS = np.zeros((3, 3, 3), bool)
_NEIGHBOURS[1] = True


def pro(masks: np.ndarray | None, maps: np.ndarray, limit: float = LIMIT) -> Figure:
    """PRO in [0, 1], exact over all thresholds.

    The curve's points are joined by straight lines, at equal scores and at the limit, so a constant
    map has limit / 2 (0.15), and says so. Undefined as ``ranking.pixel_figures``.

    Args:
      masks: [n, h, w] bool, true where anomalous; None where defect photos lack them.
      maps: [n, h, w], larger is more anomalous.
      limit: of the false-positive rate over the normal pixels of all photos, in (0, 1].

    Raises:
      ValueError: the shapes differ.
    """
    if masks is None:
        return Figure(None, NO_MASKS)
    if reason := undefined("pixels", masks, maps):
        return Figure(None, reason)
    c = curve.exact(masks, maps, region_weights(masks))
    return Figure(float(curve.partial_area(c, limit)), chance("pixels", maps))


def region_weights(masks: np.ndarray) -> np.ndarray:
    """[p] float64: for each anomalous pixel, in the masks' order, 1 / the area of its region.

    Args:
      masks: [n, h, w] bool with p anomalous pixels.
    """
    regions, _ = ndimage.label(masks, _NEIGHBOURS)
    region_of_pixel = regions[masks]
    return 1.0 / np.bincount(region_of_pixel)[region_of_pixel]
