"""Writes the golden files: what the PyTorch networks give for every small case, in float64.

Command: python tests/parity/make_golden.py (with PyTorch and this package installed)
"""

import numpy as np
import torch
import torch_run
from parity_cases import GOLDEN, SMALL_CASES


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for case in SMALL_CASES:
        _, _, output = torch_run.run(case, torch.float64)
        path = GOLDEN / f"{case.name}.npz"
        np.savez_compressed(path, output=torch_run.to_numpy(output).astype(np.float32))
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
