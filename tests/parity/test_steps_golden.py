"""Ten training steps of each stage against those of PyTorch, recorded by make_golden.py."""

import numpy as np
import pytest
from parity_cases import GOLDEN
from steps_cases import STEPS_CASES, TOLERANCE, parameters, relative_error_of_change


@pytest.mark.parametrize("case", STEPS_CASES, ids=lambda case: case.name)
def test_steps_equal_the_recorded_ones(case):
    golden = dict(np.load(GOLDEN / f"{case.name}.npz"))
    recorded = {path: golden.pop(path) for path in case.golden}
    metrics, after = case.run()
    for name, values in golden.items():
        np.testing.assert_allclose(metrics[name], values, rtol=TOLERANCE, err_msg=name)
    first = parameters(case.first_state())
    for path, value in recorded.items():
        assert relative_error_of_change(first[path], after[path], value) <= TOLERANCE, path
