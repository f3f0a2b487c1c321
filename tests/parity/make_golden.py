"""Writes the golden files, computed by PyTorch in float64.

What the networks give for every small case, and what ten training steps of every stage do.

Command: PYTHONPATH=. python tests/parity/make_golden.py (with PyTorch and this package installed)
"""

import numpy as np
import torch
import torch_backbones
import torch_run
import torch_steps
from backbone_cases import NETWORKS, image_for, tensors
from parity_cases import GOLDEN, SMALL_CASES
from steps_cases import STEPS_CASES


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for case in SMALL_CASES:
        _, _, output = torch_run.run(case, torch.float64)
        _save(case.name, {"output": torch_run.to_numpy(output)})
    for name, network in NETWORKS.items():
        image = image_for(network)
        found = torch_backbones.run(network, tensors(network), image, torch.float64)
        _save(name, {layer: found[layer] for layer in network.names})
    for case in STEPS_CASES:
        metrics, parameters = torch_steps.run(case)
        _save(case.name, metrics | {path: parameters[path] for path in case.golden})


def _save(name: str, arrays: dict[str, np.ndarray]) -> None:
    path = GOLDEN / f"{name}.npz"
    np.savez_compressed(path, **{k: v.astype(np.float32) for k, v in arrays.items()})
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
