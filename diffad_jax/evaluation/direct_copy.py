"""Direct copy: how faithfully a reconstruction repeats the defect that it should have removed.

The paper reports a PSNR between input and reconstruction inside the ground-truth mask without
saying over what the mean square is taken, so both readings are given. Lower is better.
"""

import numpy as np

from diffad_jax.evaluation.ranking import NO_MASKS, NO_RECONSTRUCTION, Figure

NAMES = ("direct_copy_masked_psnr", "direct_copy_frame_psnr")


def direct_copy_figures(
    images: np.ndarray,
    reconstructions: np.ndarray | None,
    masks: np.ndarray | None,
    labels: np.ndarray,
) -> dict[str, Figure]:
    """Both PSNRs in dB, peak 1, averaged over the anomalous photos.

    ``direct_copy_masked_psnr`` takes the mean square over the masked pixels;
    ``direct_copy_frame_psnr`` over the whole frame, where all outside the mask is zero in both
    pictures. Photos without a mask pixel are left out, and the reason counts them. Undefined
    where none is left, where a pixel is not finite, and where a defect is repeated exactly, as its
    PSNR is infinite.

    Args:
      images: [n, h, w, 3] float in [0, 1].
      reconstructions: [n, h, w, 3] float in [0, 1]; None where the method makes none.
      masks: [n, h, w] bool, true where anomalous; None where defect photos lack them.
      labels: [n] bool, true where the photo is anomalous.

    Raises:
      ValueError: the shapes differ, or pixels are integers.
    """
    if reconstructions is None:
        return dict.fromkeys(NAMES, Figure(None, NO_RECONSTRUCTION))
    if masks is None:
        return dict.fromkeys(NAMES, Figure(None, NO_MASKS))
    _check(images, reconstructions, masks, labels)
    areas = masks.sum(axis=(1, 2))
    used = np.flatnonzero(labels & (areas > 0))
    left_out, total = int(np.sum(labels)) - used.size, int(np.sum(labels))
    if not used.size:
        return dict.fromkeys(NAMES, Figure(None, "no anomalous photo has a mask with a true pixel"))
    # Photo by photo: the pictures of a large test set need no copy.
    squares = np.array([_squared_error(images[i], reconstructions[i], masks[i]) for i in used])
    if not np.isfinite(squares).all():
        return dict.fromkeys(NAMES, Figure(None, "a photo or reconstruction is not finite"))
    if copied := int(np.sum(squares == 0)):
        reason = f"{copied} of {used.size} reconstructions equal the photo: infinite PSNR"
        return dict.fromkeys(NAMES, Figure(None, reason))
    note = f"{left_out} of {total} anomalous photos have no mask pixel" if left_out else ""
    pixels = (areas[used], masks[0].size)
    psnrs = (np.mean(-10.0 * np.log10(squares / (3 * n))) for n in pixels)
    return {name: Figure(float(psnr), note) for name, psnr in zip(NAMES, psnrs, strict=True)}


def _squared_error(image: np.ndarray, reconstruction: np.ndarray, mask: np.ndarray) -> float:
    """Summed over the channels of the masked pixels."""
    return float(np.sum(np.square(image[mask] - reconstruction[mask], dtype=np.float64)))


def _check(
    images: np.ndarray, reconstructions: np.ndarray, masks: np.ndarray, labels: np.ndarray
) -> None:
    shapes = (
        images.shape,
        reconstructions.shape,
        (*masks.shape, 3),
        (*labels.shape, *images.shape[1:]),
    )
    if len(set(shapes)) > 1:
        raise ValueError(
            f"photos {images.shape}, reconstructions {reconstructions.shape}, masks {masks.shape} "
            f"and labels {labels.shape} do not belong together"
        )
    if not all(np.issubdtype(x.dtype, np.floating) for x in (images, reconstructions)):
        raise ValueError("photos and reconstructions must be floats in [0, 1]: divide uint8 by 255")
