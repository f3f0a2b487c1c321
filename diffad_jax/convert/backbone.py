"""Trained weights of the feature extractors, from files that others publish."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from diffad_jax.convert import sources, translate
from diffad_jax.convert.errors import ConvertError
from diffad_jax.models.inception import Inception
from diffad_jax.models.pretrained import load_inception
from diffad_jax.models.resnet import ResNet

_EPSILON = 1e-5  # of PyTorch's batch normalisation


def read_backbone(path: str | Path, network: Inception | ResNet) -> dict:
    """The ``params`` of a feature extractor, as NumPy arrays.

    Args:
      path: for a ResNet a .pth or .safetensors file with torchvision's names; for Inception a
        safetensors file, see ``models.pretrained``.
      network: names the layers that the file must reach.

    Raises:
      ConvertError: there is no such file, or it holds something else.
    """
    if isinstance(network, ResNet):
        return _read_resnet(path, network)
    try:
        return load_inception(path, network.names)
    except (OSError, ValueError) as error:
        raise ConvertError(str(error)) from error


def _read_resnet(path: str | Path, network: ResNet) -> dict:
    tensors = sources.read(path)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    return {
        name: _folded(tensors, name, leaves["kernel"].shape, path)
        for name, leaves in shapes.items()
    }


def _folded(
    tensors: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], path: str | Path
) -> dict[str, np.ndarray]:
    """A convolution and the batch normalisation behind it as one, γ (w x − μ) / √(σ² + ε) + β."""
    conv, norm = _torch_names(name)

    def tensor(of: str, wanted: tuple[int, ...]) -> np.ndarray:
        if of not in tensors:
            raise ConvertError(f"{path} does not fit the network: {of} is missing")
        if tensors[of].shape != wanted:
            raise ConvertError(
                f"{path} does not fit the network: {of} is {list(tensors[of].shape)}, "
                f"not {list(wanted)}"
            )
        if fault := translate.number_fault(tensors[of], is_variance=of.endswith("running_var")):
            raise ConvertError(f"{path} does not fit the network: {of} {fault}")
        return tensors[of].astype(np.float64)

    height, width, inputs, outputs = shape
    kernel = tensor(f"{conv}.weight", (outputs, inputs, height, width)).transpose(2, 3, 1, 0)
    scale, shift, mean, variance = (
        tensor(f"{norm}.{part}", (outputs,))
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / np.sqrt(variance + _EPSILON)
    return {
        "kernel": (kernel * factor[None, None, None]).astype(np.float32),
        "bias": (shift - mean * factor).astype(np.float32),
    }


def _torch_names(name: str) -> tuple[str, str]:
    """Of a convolution and its normalisation: layer1_0_conv2 -> layer1.0.conv2, layer1.0.bn2."""
    *block, conv = name.split("_")
    prefix = "".join(f"{part}." for part in block)
    if conv == "downsample":
        return f"{prefix}downsample.0", f"{prefix}downsample.1"
    return prefix + conv, prefix + conv.replace("conv", "bn")
