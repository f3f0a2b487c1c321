"""The feature extractors in PyTorch, fed with a state_dict of NumPy arrays."""

import numpy as np
import torch
import torch_dinov2
import torch_efficientnet
import torch_resnet

from diffad_jax.models.dinov2 import Dinov2
from diffad_jax.models.efficientnet_lite import EfficientNetLite
from diffad_jax.models.resnet import ResNet

_TWINS = {
    Dinov2: torch_dinov2.Dinov2,
    EfficientNetLite: torch_efficientnet.EfficientNetLite,
    ResNet: torch_resnet.ResNet,
}
_CLASSIFIER = ("fc.", "_fc.", "_conv_head.", "_bn1.")


def run(network, state: dict[str, np.ndarray], image: np.ndarray, dtype=torch.float32) -> dict:
    """{name: [b, h, w, c]} of all layers; ``state`` may hold a classifier too."""
    twin = _TWINS[type(network)](network)
    held = {
        k: torch.from_numpy(np.array(v)) for k, v in state.items() if not k.startswith(_CLASSIFIER)
    }
    twin.load_state_dict(held)
    twin.eval().to(dtype)
    with torch.no_grad():
        found = twin(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()).to(dtype))
    return {name: x.numpy().transpose(0, 2, 3, 1) for name, x in found.items()}
