"""LPIPS from the published files: torchvision's VGG16 and the heads."""

from pathlib import Path

from diffad_jax.convert import names, sources, translate
from diffad_jax.models.lpips import Lpips

_CLASSIFIER = ("classifier.", "pre_logits.", "head.")  # of VGG16, by torchvision or timm


def read_lpips(vgg: str | Path, heads: str | Path, module: Lpips) -> dict:
    """The ``params`` of ``module``.

    Args:
      vgg: VGG16 with torchvision's names (``features.0.weight`` …), .pth or .safetensors.
      heads: LPIPS's ``vgg.pth`` (``lin0.model.1.weight`` …).
      module: usually ``Lpips()``, of the published width.

    Raises:
      ConvertError: a file is unreadable or does not hold these weights.
    """
    variables = translate.to_ours(
        sources.read(vgg) | sources.read(heads),
        names.lpips(module),
        known=lambda name: name.startswith(_CLASSIFIER),
        source=f"{vgg} with {heads}",
    )
    return variables["params"]
