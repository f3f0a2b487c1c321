"""Pixel figures of a test set that memory does not hold, with certified bounds.

What memory holds is ranked exactly by one sort: ``ranking.pixel_figures``, ``pro``, ``f1``.
"""

import numpy as np

from diffad_jax.evaluation import curve, pro
from diffad_jax.evaluation.ranking import NO_MASKS, Figure, undefined_by_counts

NAMES = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_pro")


class PixelBins:
    """Counts of normal and anomalous pixels in equal bins over [0, 1], batch by batch.

    It takes 24 bytes a bin, whatever the number of photos. Pixels of one bin count as tied. As all
    orders inside a bin are covered by ``bounds``, these hold for the exact figures; they are
    wider the more pixels of both kinds share a bin.

    Args:
      num_bins: a power of two, so that scores fall into their bins without rounding.
    """

    def __init__(self, num_bins: int = 2**20):
        if num_bins < 1 or num_bins & (num_bins - 1):
            raise ValueError(f"num_bins must be a power of two, got {num_bins}")
        self.num_bins = num_bins
        self._negatives = np.zeros(num_bins, np.int64)
        self._positives = np.zeros(num_bins, np.int64)
        self._regions = np.zeros(num_bins, np.float64)  # anomalous pixels, over their region's area
        self._broken = 0
        self._without_masks = False

    def update(self, masks: np.ndarray | None, maps: np.ndarray) -> None:
        """Counts a batch.

        Args:
          masks: [b, h, w] bool, true where anomalous; None where defect photos lack them.
          maps: [b, h, w] in [0, 1], larger is more anomalous. NaN and infinities are counted and
            make the figures undefined.

        Raises:
          ValueError: the shapes differ, or a finite score is beyond [0, 1].
        """
        if masks is None:
            self._without_masks = True
            return
        if masks.shape != maps.shape:
            raise ValueError(f"masks {masks.shape} and maps {maps.shape} differ in shape")
        finite = np.isfinite(maps)
        if not finite.all():
            self._broken += int(np.sum(~finite))
            maps = np.where(finite, maps, 0)
        if maps.size and (maps.min() < 0 or maps.max() > 1):
            raise ValueError(f"maps must lie in [0, 1], got [{maps.min()}, {maps.max()}]")
        scaled = np.multiply(maps, self.num_bins, dtype=np.float64)  # exact, for float16 as well
        bins = np.minimum(scaled.astype(np.int64), self.num_bins - 1)
        self._negatives += np.bincount(bins[~masks], minlength=self.num_bins)
        found = bins[masks]
        self._positives += np.bincount(found, minlength=self.num_bins)
        self._regions += np.bincount(found, pro.region_weights(masks), self.num_bins)

    def figures(self) -> dict[str, Figure]:
        """The figures named in ``NAMES``; each one's reason states its bounds.

        Undefined as ``ranking.pixel_figures``. F1 is at the best of the bins' lower ends.
        """
        if reason := self._undefined():
            return dict.fromkeys(NAMES, Figure(None, reason))
        pixels, regions = self._curves()
        values = (
            curve.auroc(pixels),
            curve.average_precision(pixels),
            np.max(curve.f1(pixels)),
            curve.partial_area(regions, pro.LIMIT),
        )
        figures = {}
        for (name, (low, high)), value in zip(self.bounds().items(), values, strict=True):
            note = f"from {self.num_bins} bins: the exact value is in [{low:.9f}, {high:.9f}]"
            figures[name] = Figure(float(value), note)
        return figures

    def bounds(self) -> dict[str, tuple[float, float]]:
        """(lowest, highest) of each figure over all orders inside the bins; empty if undefined.

        Right but for rounding, which is below 1e-12.
        """
        if self._undefined():
            return {}
        pixels, regions = self._curves()
        bounds = (
            curve.auroc_bounds(pixels),
            curve.average_precision_bounds(pixels),
            curve.f1_max_bounds(pixels),
            curve.partial_area_bounds(regions, pro.LIMIT),
        )
        return {n: (float(b[0]), float(b[1])) for n, b in zip(NAMES, bounds, strict=True)}

    def _undefined(self) -> str:
        if self._without_masks:
            return NO_MASKS
        anomalous = int(self._positives.sum())
        total = anomalous + int(self._negatives.sum())
        return undefined_by_counts("pixels", total, anomalous, self._broken)

    def _curves(self) -> tuple[curve.Curve, curve.Curve]:
        """Of pixels, and of regions with equal weight."""
        thresholds = np.arange(self.num_bins)[::-1] / self.num_bins
        negatives = self._negatives[::-1]
        pixels = curve.from_bins(thresholds, self._positives[::-1], negatives)
        return pixels, pixels._replace(positives=self._regions[::-1])
