"""The feature extractors that the parity tests compare, weights from a formula.

``tensors`` is what a published file holds; our side reads it with ``convert.backbone``.
"""

import jax
import numpy as np
from parity_cases import formula_normal, formula_uniform

from diffad_jax.convert import names, translate
from diffad_jax.convert.backbone import torch_names
from diffad_jax.models.dinov2 import Dinov2
from diffad_jax.models.efficientnet_lite import EfficientNetLite
from diffad_jax.models.resnet import ResNet

NETWORKS = {
    "resnet_basic": ResNet(("layer2", "layer4"), (1, 2, 1, 1), bottleneck=False, channels=4),
    "resnet_wide": ResNet(
        ("layer2", "layer4"), (1, 2, 1, 1), bottleneck=True, inner_width=2, channels=4
    ),
    "efficientnet_lite": EfficientNetLite(
        ("stage2", "stage5", "stage7"), (1, 2, 1, 2, 1, 1, 1), (4, 6, 8, 8, 10, 10, 12), channels=8
    ),
    # Positions of 6 x 6 patches, for a photo of 5 x 8.
    "dinov2": Dinov2(("block1", "block3"), width=12, heads=2, grid=6),
    "dinov2_registers": Dinov2(("block1", "block3"), width=12, heads=2, registers=2, grid=6),
}
IMAGE = formula_uniform("photo", (1, 70, 53, 3))  # odd sizes, where padding matters
PATCHES = formula_uniform("photo", (1, 70, 112, 3))


def image_for(network) -> np.ndarray:
    return PATCHES if isinstance(network, Dinov2) else IMAGE


def tensors(network: ResNet | EfficientNetLite | Dinov2) -> dict[str, np.ndarray]:
    """A state_dict, with what else the files hold."""
    if isinstance(network, Dinov2):
        return _transformer(network)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    state = {"fc.weight": np.zeros((3, 3), np.float32)}
    for ours, leaves in shapes.items():
        conv, norm = torch_names(network, ours)
        height, width, inputs, outputs = leaves["kernel"].shape
        values = formula_normal(conv, (outputs, inputs, height, width))
        state[f"{conv}.weight"] = values * np.float32(1.4 / np.sqrt(inputs * height * width))
        noise = {part: formula_normal(f"{norm}.{part}", (outputs,)) for part in "wbmv"}
        state[f"{norm}.weight"] = 0.7 + noise["w"] / 10
        state[f"{norm}.bias"] = noise["b"] / 10
        state[f"{norm}.running_mean"] = noise["m"] / 10
        state[f"{norm}.running_var"] = np.exp(noise["v"] / 5)
        state[f"{norm}.num_batches_tracked"] = np.zeros((), np.int64)
    return {name: np.asarray(value) for name, value in state.items()}


def _transformer(network: Dinov2) -> dict[str, np.ndarray]:
    state = {"mask_token": np.zeros((1, network.width), np.float32)}
    for pair in names.dinov2(network):
        shape = translate.their_shape(pair)
        values, fan_in = formula_normal(pair.name, shape), np.prod(shape[1:])
        if pair.path[-1] == "kernel":
            values = values * np.float32(1.4 / np.sqrt(fan_in))
        elif pair.path[-1] in ("scale", "ls1", "ls2"):
            values = 0.7 + values / 10
        state[pair.name] = np.asarray(values, np.float32)
    return state
