"""Direct copy: how faithfully a reconstruction repeats the defect that it should have removed.

The paper reports a PSNR between input and reconstruction inside the ground-truth mask. It does not
say over which pixels the mean square is taken, so both readings are given. Lower is better.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from diffad_jax.evaluation.ranking import NO_MASKS, Labels, Metric

NAMES = ("direct_copy_masked_psnr", "direct_copy_frame_psnr")


def squared_errors(
    images: Float[np.ndarray, "n h w 3"],
    reconstructions: Float[np.ndarray, "n h w 3"],
    masks: Bool[np.ndarray, "n h w"],
) -> Float64[np.ndarray, " n"]:
    """Squared errors of reconstructions, summed over masked pixels and channels.

    Pixels are in [0, 1]. Masks are true where anomalous.
    """
    return np.array(
        [np.sum(np.square(image[mask] - reconstruction[mask], dtype=np.float64))
         for image, reconstruction, mask in zip(images, reconstructions, masks, strict=True)]
    )  # fmt: skip


def direct_copy_metrics(
    squares: Float64[np.ndarray, " n"] | None,
    areas: Int[np.ndarray, " n"],
    size: int,
    labels: Labels,
) -> dict[str, Metric]:
    """Both PSNRs in dB, peak 1, averaged over the anomalous photos.

    ``direct_copy_masked_psnr`` takes the mean square over the masked pixels.
    ``direct_copy_frame_psnr`` takes it over the whole frame, with zeros outside the mask in both
    pictures. Photos without a mask pixel are left out, and the reason counts them. Both are
    undefined where no photo is left, where a pixel is not finite, and where a defect is repeated
    exactly, because its PSNR is infinite.

    Args:
      squares: by ``squared_errors``; None where defect photos lack masks.
      areas: masked pixels.
      size: pixels of a photo.
      labels: of the photos.
    """
    if squares is None:
        return dict.fromkeys(NAMES, Metric(None, NO_MASKS))
    used = labels & (areas > 0)
    count, total = int(np.sum(used)), int(np.sum(labels))
    if not count:
        return dict.fromkeys(NAMES, Metric(None, "no anomalous photo has a mask with a true pixel"))
    squares = squares[used]
    if not np.isfinite(squares).all():
        return dict.fromkeys(NAMES, Metric(None, "a photo or reconstruction is not finite"))
    if copied := int(np.sum(squares == 0)):
        reason = f"{copied} of {count} reconstructions equal the photo: infinite PSNR"
        return dict.fromkeys(NAMES, Metric(None, reason))
    left_out = total - count
    note = f"{left_out} of {total} anomalous photos have no mask pixel" if left_out else ""
    psnrs = (np.mean(-10.0 * np.log10(squares / (3 * n))) for n in (areas[used], size))
    return {name: Metric(float(psnr), note) for name, psnr in zip(NAMES, psnrs, strict=True)}
