"""The right and wrong verdicts of a threshold on the test photos."""

import dataclasses

import numpy as np

from diffad_jax.evaluation.ranking import Labels, Metric, Scores


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Numbers of photos by verdict and label, with precision and recall; positive: anomalous."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    without_score: int  # NaN: in none of the four, and then precision and recall are undefined

    @property
    def precision(self) -> Metric:
        """The share of verdicts "anomalous" that are right, in [0, 1]."""
        found = self.true_positives + self.false_positives
        return self._share(self.true_positives, found, "no photo was called anomalous")

    @property
    def recall(self) -> Metric:
        """The share of anomalous photos that are found, in [0, 1]."""
        anomalous = self.true_positives + self.false_negatives
        return self._share(self.true_positives, anomalous, "there are no anomalous test photos")

    def _share(self, part: int, whole: int, reason: str) -> Metric:
        if self.without_score:
            return Metric(None, f"{self.without_score} test photos have NaN as their score")
        return Metric(part / whole) if whole else Metric(None, reason)


def confusion(labels: Labels, scores: Scores, threshold: float) -> Confusion:
    """Counts verdicts by prediction's rule: a photo above the threshold is anomalous.

    One that scores just this is normal.
    """
    above, below = scores > threshold, scores <= threshold
    return Confusion(
        true_positives=int(np.sum(above & labels)),
        false_positives=int(np.sum(above & ~labels)),
        true_negatives=int(np.sum(below & ~labels)),
        false_negatives=int(np.sum(below & labels)),
        without_score=int(np.sum(np.isnan(scores))),
    )
