"""Inception with its published weights, on real photos; skipped where they are not at hand.

Command: DIFFAD_INCEPTION=FILE.safetensors python -m pytest tests/parity/test_inception_weights.py
"""

import functools
import os

import flax
import jax
import numpy as np
import pytest
from parity_cases import TOLERANCE, relative_error
from sklearn.datasets import load_sample_image

from diffad_jax.models.inception import LAYERS, Inception, InceptionDistance, resize
from diffad_jax.models.pretrained import load_inception

NAMES = LAYERS[: LAYERS.index("mixed_8") + 1]  # as deep as the smallest such file in use


@pytest.fixture(scope="module")
def params() -> dict:
    path = os.environ.get("DIFFAD_INCEPTION")
    if not path:
        pytest.skip("set DIFFAD_INCEPTION to the safetensors file of the published weights")
    return load_inception(path, NAMES)


@functools.cache
def photo(name: str) -> np.ndarray:
    """[1, 299, 299, 3] float32 in [0, 1]: a photo that comes with scikit-learn."""
    pixels = load_sample_image(name).astype(np.float32)[None] / 255
    return np.asarray(jax.jit(resize)(pixels))


def test_every_layer_equals_that_of_pytorch(params):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: '.[parity]'")
    import torch_reference
    import torch_run

    network = Inception(NAMES)
    twin = torch_reference.build(network)
    torch_reference.load(twin, flax.traverse_util.flatten_dict({"params": params}))
    ours = jax.jit(network.apply)({"params": params}, photo("china.jpg"))
    with torch.no_grad():
        theirs = twin.features(torch_run.to_torch(photo("china.jpg")))
    for name in NAMES:
        assert relative_error(ours[name], torch_run.to_numpy(theirs[name])) <= TOLERANCE, name


def test_a_darker_photo_is_nearer_than_another_one(params):
    image, other = photo("china.jpg"), photo("flower.jpg")
    network = InceptionDistance(("mixed_2", "mixed_7"))
    distance = jax.jit(functools.partial(network.apply, {"params": params}))
    assert 0 < 2 * distance(image, 0.9 * image)[0] < distance(image, other)[0]
