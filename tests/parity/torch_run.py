"""Runs a case in PyTorch: NHWC arrays in, NHWC arrays out."""

import flax
import numpy as np
import torch
import torch_reference
from parity_cases import Case


def run(
    case: Case, dtype: torch.dtype = torch.float32
) -> tuple[torch.nn.Module, list[torch.Tensor], torch.Tensor]:
    """The network after the call, its inputs (NCHW, with gradients) and its output (NCHW)."""
    network = torch_reference.build(case.module)
    torch_reference.load(network, flax.traverse_util.flatten_dict(case.variables))
    network.train(bool(case.train)).to(dtype)
    inputs = [to_torch(x, dtype) for x in case.inputs]
    method = "forward" if case.method == "__call__" else case.method
    return network, inputs, getattr(network, method)(*inputs)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """[b, c, h, w] -> [b, h, w, c]; other ranks stay."""
    array = tensor.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def to_torch(array: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[b, h, w, c] -> [b, c, h, w], to be differentiated by; other ranks stay as they are."""
    if array.ndim != 4:
        return torch.from_numpy(array)
    array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    return torch.from_numpy(array).to(dtype).requires_grad_()
