"""PRO: the area under the per-region-overlap curve.

Bergmann et al., "The MVTec Anomaly Detection Dataset" (IJCV 2021), section 5.2. The curve gives the
mean share of each defect region that is found, against the share of normal pixels that is falsely
reported. Its area up to a false-positive rate of 0.3 is divided by that of a perfect detector
(``curve.partial_area``). Straight lines join the curve's points, also at equal scores and at the
limit, so a constant map has limit / 2 (0.15).
"""

import numpy as np
from jaxtyping import Bool, Float64
from scipy import ndimage

LIMIT = 0.3  # of the false-positive rate, as published
# Pixels that share a side or a corner belong to one region; no region spans two photos.
_NEIGHBOURS = np.zeros((3, 3, 3), bool)
_NEIGHBOURS[1] = True


def region_weights(masks: Bool[np.ndarray, "n h w"]) -> Float64[np.ndarray, " p"]:
    """For each of the p anomalous pixels, in the masks' order, 1 / the area of its region."""
    regions, _ = ndimage.label(masks, _NEIGHBOURS)
    region_of_pixel = regions[masks]
    return 1.0 / np.bincount(region_of_pixel)[region_of_pixel]
