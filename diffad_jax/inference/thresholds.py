"""Thresholds from scores of held-out normal photos, and their worth; see docs/thresholds.md."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

# Of 10 to 50 normally distributed scores one lies so far out in at most 2 of 1,000 sets; of scores
# with a Gumbel distribution in 1 to 2 of 100 sets (4,000 sets each).
_FAR = 8.0  # robust deviations above the median
_TO_DEVIATION = 1.4826  # of a normal distribution, from its median absolute deviation
_DOUBT = 0.05


class FalseAlarms(NamedTuple):
    """The held-out photos above a threshold, and the rate that follows for all good photos."""

    above: int
    of: int
    low: float  # 95 % interval of the true rate, in 0 … 1
    high: float

    def describe(self) -> str:
        """One clause."""
        lie = "lies" if self.above == 1 else "lie"
        said = f"{self.above} of {self.of} held-out photos {lie} above it: the true rate is "
        if not self.above:
            return f"{said}below {_per_cent(self.high)} %"
        return f"{said}{_per_cent(self.low)} to {_per_cent(self.high)} %"


def _per_cent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.1 else 1}f}"


def false_alarms(scores: Sequence[float], threshold: float) -> FalseAlarms:
    """The rate at which good photos exceed ``threshold``, by Clopper and Pearson (1934).

    With none above, all doubt lies on one side: the true rate is below 1 − 0.05^(1/n). The upper
    end also holds where the threshold is one of the scores, with k of n above it: the rate above it
    is distributed as Beta(k + 1, n − k).

    Args:
      scores: of n held-out photos, one or more.
      threshold: a photo above it is called anomalous.
    """
    of, above = len(scores), sum(score > threshold for score in scores)
    if not above:
        return FalseAlarms(0, of, 0.0, 1.0 - _DOUBT ** (1.0 / of))
    low = float(special.betaincinv(above, of - above + 1, _DOUBT / 2))
    high = float(special.betaincinv(above + 1, of - above, 1 - _DOUBT / 2)) if above < of else 1.0
    return FalseAlarms(above, of, low, high)


def far_above(scores: Sequence[float]) -> list[int]:
    """The indices of scores more than eight robust deviations above the median.

    A robust deviation is 1.4826 times the median absolute deviation from the median. Where that is
    0, because half of the scores are equal, there is none.
    """
    values = np.asarray(scores, np.float64)
    middle = np.median(values)
    deviation = _TO_DEVIATION * np.median(np.abs(values - middle))
    if deviation == 0.0:
        return []
    return np.flatnonzero(values > middle + _FAR * deviation).tolist()


def choose(held_out: Sequence[float], accepted: Sequence[float], rate: float) -> float:
    """The score that about this share of new good photos exceeds, without one outlier.

    A single held-out score that is ``far_above`` all others does not set the threshold, unless the
    rate is 0, which allows no photo above it. Several such scores are no accident, and count like
    any other. So does a photo that an inspector has seen and accepted.

    Args:
      held_out: of one or more photos.
      accepted: of good photos of inspectors.
      rate: in 0 … 1.
    """
    scores = [*held_out, *accepted]
    far = far_above(scores)
    aside = rate > 0.0 and len(far) == 1 and far[0] < len(held_out)
    return threshold_at_rate(scores, rate, least_above=int(aside))


def threshold_at_rate(scores: Sequence[float], rate: float, least_above: int = 0) -> float:
    """The one of ``scores`` that a new photo exceeds at a rate nearest to ``rate``.

    A photo like those of n scores is above the one that k of them exceed in (k + 1) of (n + 1)
    cases, whatever their distribution. Of two rates equally near the smaller one counts. At least
    ``least_above`` of the scores exceed it, if there are so many.
    """
    # Rounded, because 0.29 * 100 is 28.999999999999996.
    rank = math.ceil(round(rate * (len(scores) + 1) - 0.5, 9))
    above = max(rank - 1, least_above, 0)
    return float(sorted(scores)[max(len(scores) - 1 - above, 0)])
