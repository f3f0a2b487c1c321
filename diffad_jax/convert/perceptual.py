"""LPIPS: torchvision's VGG16 and the published heads become one file of ours."""

from pathlib import Path

import flax.traverse_util
import jax
import numpy as np
import safetensors.numpy

from diffad_jax.convert import names, sources, translate
from diffad_jax.convert.errors import ConvertError
from diffad_jax.models import pretrained
from diffad_jax.models.lpips import Lpips

_CLASSIFIER = ("classifier.", "pre_logits.", "head.")  # of VGG16, by torchvision or timm


def convert_lpips(
    vgg: str | Path, heads: str | Path, output: str | Path, module: Lpips | None = None
) -> None:
    """Writes the weights for ``models.lpips.Lpips`` as safetensors.

    Args:
      vgg: VGG16 with torchvision's names (``features.0.weight`` …), .pth or .safetensors.
      heads: LPIPS's ``vgg.pth`` (``lin0.model.1.weight`` …).
      output: the file to write; its tensors are named "stage_0/conv_0/kernel", …, "head_0", ….
      module: of another width than the published one.

    Raises:
      ConvertError: a file is unreadable or does not hold these weights.
    """
    params = _translated(vgg, heads, module or Lpips())
    safetensors.numpy.save_file(flax.traverse_util.flatten_dict(params, sep="/"), output)


def _translated(vgg: str | Path, heads: str | Path, module: Lpips) -> dict:
    variables = translate.to_ours(
        sources.read(vgg) | sources.read(heads),
        names.lpips(module),
        known=lambda name: name.startswith(_CLASSIFIER),
        source=f"{vgg} with {heads}",
    )
    return variables["params"]


def read_lpips(path: str | Path, module: Lpips | None = None) -> dict:
    """The ``params`` of ``Lpips`` from a file that ``convert_lpips`` wrote, or from "VGG,HEADS".

    Raises:
      ConvertError: there is no such file, or it holds something else.
    """
    if len(parts := str(path).split(",")) == 2:
        return _translated(*parts, module or Lpips())
    image = jax.ShapeDtypeStruct((1, 16, 16, 3), np.float32)
    template = jax.eval_shape((module or Lpips()).init, jax.random.key(0), image, image)
    try:
        return pretrained.load_safetensors(path, template["params"])
    except (OSError, ValueError) as error:
        raise ConvertError(f"{error}; diffad_jax.convert.perceptual writes such a file") from error
