"""Each network against its PyTorch twin with the same weights: output, gradients, statistics."""

import flax
import jax
import numpy as np
import pytest
from parity_cases import SMALL_CASES, TOLERANCE, formula_normal, relative_error

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")

import torch_reference  # noqa: E402  (both import torch)
import torch_run  # noqa: E402

GRADIENT_TOLERANCE = 1e-4  # sums over all pixels, in another order
# the golden files cover batch normalisation by running statistics, and gradients never need it
CASES = {case.name: case for case in SMALL_CASES if case.train is not False}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_output_and_gradients_equal_those_of_pytorch(case):
    network, inputs, reference = torch_run.run(case)
    weight = formula_normal("cotangent", torch_run.to_numpy(reference).shape)

    def weighted(params, inputs):
        variables = {**case.variables, "params": params}
        output, statistics = case.run(variables, *inputs, *case.inputs[len(inputs) :])
        return (output * weight).sum(), (output, statistics)

    images = [x for x in case.inputs if x.ndim == 4]
    differentiate = jax.jit(jax.grad(weighted, argnums=(0, 1), has_aux=True))
    gradients, (output, statistics) = differentiate(case.variables["params"], images)
    assert relative_error(output, torch_run.to_numpy(reference)) <= TOLERANCE

    reference.backward(torch_run.to_torch(weight).detach())
    for ours, theirs in zip(gradients[1], inputs, strict=False):
        assert relative_error(ours, torch_run.to_numpy(theirs.grad)) <= GRADIENT_TOLERANCE
    _assert_parameter_gradients_equal(network, gradients[0])
    _assert_running_means_equal(network, statistics)


def _assert_parameter_gradients_equal(network, gradients):
    parameters = dict(network.named_parameters())
    largest = max(p.grad.abs().max() for p in parameters.values() if p.grad is not None)
    for path, ours in flax.traverse_util.flatten_dict(gradients).items():
        key, ours = torch_reference.to_torch(path, np.asarray(ours))
        theirs = parameters[key].grad
        theirs = torch.zeros_like(ours) if theirs is None else theirs
        assert (ours - theirs).abs().max() <= GRADIENT_TOLERANCE * largest, key


def _assert_running_means_equal(network, statistics):
    buffers = dict(network.named_buffers())
    for path, ours in flax.traverse_util.flatten_dict(statistics).items():
        if path[-1] == "mean":
            key, _ = torch_reference.to_torch(path, np.asarray(ours))
            assert relative_error(ours, buffers[key]) <= TOLERANCE, key


def test_pytorch_stores_the_unbiased_variance_and_we_the_biased_one():
    case = CASES["segmenter_train"]
    network, _, _ = torch_run.run(case)
    _, statistics = jax.jit(case.run)(case.variables, *case.inputs)
    old = case.variables["batch_stats"]["down_0"]["norm_0"]["var"]
    pixels = np.prod(case.inputs[0].shape[:3])
    ours = statistics["down_0"]["norm_0"]["var"]
    expected = 0.9 * old + (ours - 0.9 * old) * pixels / (pixels - 1)
    theirs = dict(network.named_buffers())["down_0.norm_0.running_var"]
    assert relative_error(expected, theirs) <= TOLERANCE
