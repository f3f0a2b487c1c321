"""The feature extractors in PyTorch, fed with a state_dict of NumPy arrays."""

import numpy as np
import torch
import torch_efficientnet
import torch_resnet

from diffad_jax.models.resnet import ResNet

_CLASSIFIER = ("fc.", "_fc.", "_conv_head.", "_bn1.")


def run(network, state: dict[str, np.ndarray], image: np.ndarray, dtype=torch.float32) -> dict:
    """{name: [b, h, w, c]} of all layers; ``state`` may hold a classifier too."""
    of_resnet = isinstance(network, ResNet)
    twin = (torch_resnet.ResNet if of_resnet else torch_efficientnet.EfficientNetLite)(network)
    held = {
        k: torch.from_numpy(np.array(v)) for k, v in state.items() if not k.startswith(_CLASSIFIER)
    }
    twin.load_state_dict(held)
    twin.eval().to(dtype)
    with torch.no_grad():
        found = twin(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()).to(dtype))
    return {name: x.numpy().transpose(0, 2, 3, 1) for name, x in found.items()}
