"""Ten training steps of each stage against PyTorch: every metric and every parameter."""

import re

import numpy as np
import pytest
from parity_cases import GOLDEN, relative_error
from steps_cases import STEPS_CASES, TOLERANCE

from diffad_jax.methods.diffad import segmentation

pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")

import torch_steps  # imports torch


@pytest.mark.parametrize("case", STEPS_CASES, ids=lambda case: case.name)
def test_steps_equal_those_of_pytorch(case):
    reference, parameters_there = torch_steps.run(case)
    metrics, parameters_here = case.run()
    for name, values in reference.items():
        np.testing.assert_allclose(metrics[name], values, rtol=TOLERANCE, err_msg=name)

    for path, theirs in parameters_there.items():
        ours = np.where(_has_an_effect(case, path, theirs.shape), parameters_here[path], theirs)
        assert relative_error(ours, theirs) <= TOLERANCE, path

    golden = np.load(GOLDEN / f"{case.name}.npz")
    for path in case.golden:
        assert relative_error(golden[path], parameters_there[path]) <= 1e-6, "run make_golden.py"


def _has_an_effect(case, path: str, shape: tuple[int, ...]) -> np.ndarray:
    """False where a gradient is 0 but for rounding, which Adam turns into steps.

    The softmax of attention does not see a shift of all keys, nor does batch normalisation that of
    its input.
    """
    effect = np.ones(shape, bool)
    if path.endswith("/key/bias"):
        effect[:] = False
    elif path.endswith("/qkv/bias"):
        effect.reshape(-1, 3, case.config.diffusion.head_channels)[:, 1] = False
    elif case.stage is segmentation and re.search(r"/conv_\d/bias$", path):
        effect[:] = False
    return effect
