"""Published metrics of MVTec AD, in per cent; others are not known to us.

They are shown beside ours where the photos are MVTec AD's, as far as number and size tell.

From the tables of "Unsupervised Surface Anomaly Detection with Diffusion Probabilistic Model" (ICCV
2023): the mean of all five methods, DiffAD in every category. Of the others *bottle* is listed.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from diffad_jax.data import images
from diffad_jax.data.layouts import Record

PAPER = "paper"  # whose metrics these are


class Published(NamedTuple):
    """Per cent, as printed."""

    image_auroc: float
    pixel_auroc: float
    pixel_ap: float


METHODS = ("RIAD", "DRAEM", "PaDiM", "PatchCore", "DiffAD")
MEAN = {  # over the fifteen categories
    "RIAD": Published(91.7, 94.2, 48.2),
    "DRAEM": Published(98.0, 97.3, 68.4),
    "PaDiM": Published(95.3, 97.4, 55.0),
    "PatchCore": Published(99.0, 98.1, 63.1),
    "DiffAD": Published(98.7, 98.3, 74.6),
}
_DIFFAD = {
    "carpet": Published(98.3, 98.1, 74.1),
    "grid": Published(100.0, 99.7, 73.7),
    "leather": Published(100.0, 99.1, 73.7),
    "tile": Published(100.0, 99.4, 95.1),
    "wood": Published(100.0, 96.7, 80.0),
    "bottle": Published(100.0, 98.8, 87.4),
    "cable": Published(94.6, 96.8, 64.9),
    "capsule": Published(97.5, 98.2, 54.4),
    "hazelnut": Published(100.0, 99.4, 85.9),
    "metal_nut": Published(99.5, 99.1, 94.4),
    "pill": Published(97.7, 97.7, 68.9),
    "screw": Published(97.2, 99.0, 58.5),
    "toothbrush": Published(100.0, 99.2, 70.1),
    "transistor": Published(96.1, 93.7, 60.2),
    "zipper": Published(100.0, 99.0, 77.8),
}
_BOTTLE = {
    "RIAD": Published(99.9, 98.4, 76.4),
    "DRAEM": Published(99.2, 99.1, 86.5),
    "PaDiM": Published(99.9, 98.2, 77.3),
    "PatchCore": Published(100.0, 98.6, 82.5),
}
CATEGORIES = tuple(_DIFFAD)


class _Photos(NamedTuple):
    """How many photos MVTec AD has, and pixels of a side (table 1 of its paper, CVPR 2019)."""

    train: int
    good: int  # for testing, as those with defects
    defects: int
    image_size: int


_PHOTOS = {
    "carpet": _Photos(280, 28, 89, 1024),
    "grid": _Photos(264, 21, 57, 1024),
    "leather": _Photos(245, 32, 92, 1024),
    "tile": _Photos(230, 33, 84, 840),
    "wood": _Photos(247, 19, 60, 1024),
    "bottle": _Photos(209, 20, 63, 900),
    "cable": _Photos(224, 58, 92, 1024),
    "capsule": _Photos(219, 23, 109, 1000),
    "hazelnut": _Photos(391, 40, 70, 1024),
    "metal_nut": _Photos(220, 22, 93, 700),
    "pill": _Photos(267, 26, 141, 800),
    "screw": _Photos(320, 41, 119, 1024),
    "toothbrush": _Photos(60, 12, 30, 1024),
    "transistor": _Photos(213, 60, 40, 1024),
    "zipper": _Photos(240, 32, 119, 1024),
}
_RESIZED = 256  # as the papers evaluate: photos may have been resized to no less before


def published(method: str, category: str) -> Published | None:
    """The metrics of one of ``METHODS`` on a category of MVTec AD; None where not listed."""
    if method == "DiffAD":
        return _DIFFAD.get(category)
    return _BOTTLE.get(method) if category == "bottle" else None


def difference(category: str, records: Sequence[Record]) -> str:
    """How a category's photos differ from MVTec AD's; empty where they do not.

    Photos that were resized to a square of 256 pixels or more before may be MVTec AD's.
    """
    if category not in _PHOTOS:
        return "MVTec AD has no such category"
    wanted = _PHOTOS[category]
    count = Counter((r.split, r.is_anomalous) for r in records)
    found = (count["train", False], count["test", False], count["test", True])
    if found != wanted[:3]:
        return (
            "{} photos to train on, {} good and {} defective ones to test, but MVTec AD has {}, "
            "{} and {}".format(*found, *wanted[:3])
        )
    try:
        sizes = {images.photo_size(r.file, images.Rules("bilinear")) for r in records}
    except images.ImageError as error:
        return str(error)
    width, height = min(sizes)
    if len(sizes) > 1 or width != height or not (_RESIZED <= width <= wanted.image_size):
        return (
            f"photos of {width} × {height} pixels{' and other sizes' if len(sizes) > 1 else ''}, "
            f"but MVTec AD's have {wanted.image_size} × {wanted.image_size}"
        )
    return ""
