"""Each network against outputs of its PyTorch twin, recorded by make_golden.py."""

import jax
import numpy as np
import pytest
from parity_cases import GOLDEN, SMALL_CASES, TOLERANCE, relative_error


@pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
def test_output_equals_the_recorded_one(case):
    golden = np.load(GOLDEN / f"{case.name}.npz")["output"]
    output, _ = jax.jit(case.run)(case.variables, *case.inputs)
    assert relative_error(output, golden) <= TOLERANCE
