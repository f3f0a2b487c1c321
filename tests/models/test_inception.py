"""Inception-v3: the published shapes, its pools and resizing, the distance, and loading weights."""

import functools
import math

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from diffad_jax.models import inception
from diffad_jax.models.inception import LAYERS, Inception, InceptionDistance
from diffad_jax.models.pretrained import load_inception, load_safetensors

SMALL = functools.partial(Inception, channels=2)
SMALL_DISTANCE = InceptionDistance(("conv_2", "mixed"), channels=2)
PUBLISHED_SHAPES = {  # of the graph, for one image of 299 × 299
    "conv": (149, 149, 32),
    "conv_1": (147, 147, 32),
    "conv_2": (147, 147, 64),
    "pool": (73, 73, 64),
    "conv_3": (73, 73, 80),
    "conv_4": (71, 71, 192),
    "pool_1": (35, 35, 192),
    "mixed": (35, 35, 256),
    "mixed_1": (35, 35, 288),
    "mixed_2": (35, 35, 288),
    **{f"mixed_{i}": (17, 17, 768) for i in range(3, 8)},
    "mixed_8": (8, 8, 1280),
    "mixed_9": (8, 8, 2048),
    "mixed_10": (8, 8, 2048),
}


def images(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.uniform(jax.random.key(seed), shape)


@functools.cache
def small_params() -> dict:
    """Random parameters at width 2, as deep as mixed_2."""
    image = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    shapes = jax.eval_shape(SMALL(("mixed_2",)).init, jax.random.key(0), image)["params"]
    random = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        width = np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        return (random.standard_normal(leaf.shape) / width).astype(np.float32)

    return jax.tree.map(draw, shapes)


def test_shapes_and_parameter_count_are_the_published_ones():
    image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    network = Inception(LAYERS)
    features, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), image)
    assert {name: value.shape[1:] for name, value in features.items()} == PUBLISHED_SHAPES
    assert tuple(PUBLISHED_SHAPES) == LAYERS
    # kernels and offsets of Keras's InceptionV3 without its top
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == 21_768_352


def test_features_do_not_depend_on_what_else_is_asked_for():
    image = images(1, 80, 75, 3)
    variables = {"params": small_params()}
    every = jax.jit(SMALL(LAYERS[: LAYERS.index("mixed_2") + 1]).apply)(variables, image)
    few = jax.jit(SMALL(("mixed_1", "pool")).apply)(variables, image)
    assert few.keys() == {"mixed_1", "pool"}
    for name, value in few.items():
        np.testing.assert_allclose(value, every[name], atol=1e-5)
    assert all(value.min() >= 0 and value.max() > 0 for value in every.values())


def test_parameters_end_with_the_deepest_layer():
    image = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    params = jax.eval_shape(SMALL(("conv", "mixed")).init, jax.random.key(0), image)["params"]
    assert {name for name in params if name.startswith("conv")} == {
        "conv", "conv_1", "conv_2", "conv_3", "conv_4"
    }  # fmt: skip
    assert len(params) == 5 + 7 and not any(name.startswith("mixed_1") for name in params)


def test_bfloat16_computes_in_bfloat16_and_returns_float32():
    image, variables = images(1, 75, 75, 3), {"params": small_params()}
    exact, rough = (
        SMALL(("conv_2",), dtype=dtype).apply(variables, image)["conv_2"]
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert rough.dtype == jnp.float32
    assert 0 < jnp.abs(rough - exact).max() < 0.05 * exact.max()


def test_input_is_scaled_as_in_the_published_graph():
    # with one weight of 1 on red, conv gives relu((255 r - 128) / 128) of every second pixel
    kernel = jnp.zeros((3, 3, 3, 2)).at[0, 0, 0, 0].set(1.0)
    params = {"conv": {"kernel": kernel, "bias": jnp.zeros(2)}}
    image = images(1, 75, 75, 3)
    out = SMALL(("conv",)).apply({"params": params}, image)["conv"][..., 0]
    red = np.asarray(image[:, 0:73:2, 0:73:2, 0], np.float64)
    np.testing.assert_allclose(out, np.maximum((255 * red - 128) / 128, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("names", "side", "message"),
    [
        (("mixed_11",), 75, "needs names of its layers, got 'mixed_11': conv, conv_1"),
        ((), 75, "needs names of its layers, got none"),
        (("conv",), 74, "at least 75 x 75 pixels, got 75 x 74"),
    ],
)
def test_wrong_calls_say_what_is_wrong(names, side, message):
    image = jax.ShapeDtypeStruct((1, 75, side, 3), jnp.float32)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(SMALL(names).init, jax.random.key(0), image)


def test_average_pool_counts_only_pixels_of_the_map():
    x = jnp.arange(1.0, 13.0).reshape(1, 3, 4, 1)
    pooled = inception._average(x)[0, :, :, 0]
    assert pooled[0, 0] == pytest.approx((1 + 2 + 5 + 6) / 4, rel=1e-6)
    assert pooled[0, 1] == pytest.approx((1 + 2 + 3 + 5 + 6 + 7) / 6, rel=1e-6)
    np.testing.assert_allclose(inception._average(jnp.ones((1, 4, 5, 2))), 1.0, rtol=1e-6)


@pytest.mark.parametrize("sides", [(7, 9), (8, 3)])
def test_halving_is_a_max_pool_of_three_by_three(sides):
    x = images(2, *sides, 3) - 0.5

    def weighted(pool, x):
        out = pool(x)
        return (out * jnp.arange(1.0, out.size + 1).reshape(out.shape)).sum(), out

    (ours, our_gradient), (theirs, their_gradient) = (
        jax.jit(jax.grad(functools.partial(weighted, pool), has_aux=True))(x)[::-1]
        for pool in (inception._halve, lambda x: nn.max_pool(x, (3, 3), (2, 2)))
    )
    np.testing.assert_array_equal(ours, theirs, strict=True)
    np.testing.assert_allclose(our_gradient, their_gradient, rtol=1e-6)


def test_resizing_by_hand():
    # sample i lies at i · 2 / 4; beyond the last pixel the last pixel stands
    ramp = jnp.array([0.0, 1.0])[None, :, None, None] * jnp.ones((1, 2, 2, 1))
    np.testing.assert_array_equal(inception.resize(ramp, 4)[0, :, 0, 0], [0.0, 0.5, 1.0, 1.0])


@pytest.mark.parametrize("sides", [(75, 90), (256, 256), (299, 299), (310, 640)])
def test_resizing_equals_that_of_tensorflow_1(sides):
    tensorflow = pytest.importorskip("tensorflow", reason="TensorFlow is not installed: '.[data]'")
    image = np.asarray(images(1, *sides, 3))
    expected = tensorflow.raw_ops.ResizeBilinear(
        images=image, size=(299, 299), align_corners=False, half_pixel_centers=False
    )
    np.testing.assert_allclose(inception.resize(jnp.asarray(image)), expected, atol=1e-6)


def test_distance_by_its_definition():
    first, second = images(2, 75, 75, 3), images(2, 75, 75, 3, seed=1)
    variables = {"params": small_params()}
    network = jax.jit(SMALL(SMALL_DISTANCE.names).apply)
    expected = np.zeros(2)
    for name in SMALL_DISTANCE.names:
        ours, theirs = (
            np.asarray(network(variables, image)[name], np.float64) for image in (first, second)
        )
        ours, theirs = (
            f / np.maximum(np.linalg.norm(f, axis=-1, keepdims=True), 1e-10) for f in (ours, theirs)
        )
        expected += ((ours - theirs) ** 2).mean((1, 2, 3))
    distance = jax.jit(SMALL_DISTANCE.apply)(variables, first, second)
    np.testing.assert_allclose(distance, expected, rtol=1e-4)


def test_distance_is_zero_at_equal_images_and_symmetric():
    first, second = images(2, 75, 75, 3), images(2, 75, 75, 3, seed=1)
    distance = jax.jit(functools.partial(SMALL_DISTANCE.apply, {"params": small_params()}))
    assert distance(first, second).min() > 0
    np.testing.assert_allclose(distance(first, second), distance(second, first), rtol=1e-5)
    np.testing.assert_allclose(distance(first, first), 0.0, atol=1e-9)


@pytest.mark.parametrize("conv_2_bias", [0.0, -100.0], ids=("as drawn", "features all zero"))
def test_distance_and_its_gradient_are_finite_at_equal_images(conv_2_bias):
    image = images(1, 75, 75, 3)
    conv_2 = {**small_params()["conv_2"], "bias": np.full(4, conv_2_bias, np.float32)}
    variables = {"params": {**small_params(), "conv_2": conv_2}}
    features = SMALL(("conv_2",)).apply(variables, image)["conv_2"]
    assert bool(features.any()) == (conv_2_bias == 0)
    distance = jax.value_and_grad(lambda x, y: SMALL_DISTANCE.apply(variables, x, y).sum())
    for other in (image, 1 - image):
        value, gradient = jax.jit(distance)(image, other)
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_distance_has_the_parameters_of_the_network():
    shape = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    of_distance = jax.eval_shape(SMALL_DISTANCE.init, jax.random.key(0), shape, shape)
    network = SMALL(SMALL_DISTANCE.names)
    assert of_distance == jax.eval_shape(network.init, jax.random.key(0), shape)


STEM = {"conv/kernel": np.ones((3, 3, 3, 2), np.float32), "conv/bias": np.zeros(2, np.float32)}


def template() -> dict:
    tensors = {name: jax.ShapeDtypeStruct(t.shape, t.dtype) for name, t in STEM.items()}
    return flax.traverse_util.unflatten_dict(tensors, sep="/")


def test_loading_gives_what_was_saved_and_leaves_the_rest(tmp_path):
    half = STEM["conv/kernel"].astype(np.float16)
    save_file({**STEM, "conv/kernel": half, "mixed_conv/bias": np.ones(3)}, tmp_path / "w")
    params = load_safetensors(tmp_path / "w", template())
    assert params.keys() == {"conv"} and params["conv"].keys() == {"kernel", "bias"}
    np.testing.assert_array_equal(params["conv"]["kernel"], STEM["conv/kernel"], strict=True)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"conv/bias": STEM["conv/bias"]}, "does not fit the network: conv/kernel is missing"),
        ({**STEM, "conv/bias": np.zeros(3)}, r"conv/bias is \[3\], not \[2\]"),
        ({**STEM, "conv/bias": np.zeros(2, int)}, "conv/bias is I64, not one of F16, F32, F64"),
        ({**STEM, "conv/bias": np.full(2, np.nan)}, "not finite, in conv/bias"),
        ({"other": np.zeros(1)}, "conv/kernel is missing; conv/bias is missing"),
    ],
)
def test_weights_that_do_not_fit_are_listed(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=f"weights.safetensors.*{message}"):
        load_safetensors(tmp_path / "weights.safetensors", template())


def test_long_lists_of_faults_are_cut(tmp_path):
    save_file({"other": np.zeros(1)}, tmp_path / "w")
    names = {f"conv_{i}": {"bias": jax.ShapeDtypeStruct((1,), np.float32)} for i in range(9)}
    with pytest.raises(ValueError, match="conv_4/bias is missing; and 4 more"):
        load_safetensors(tmp_path / "w", names)


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: good[:-4],
        lambda good: good[:20],
        lambda good: b"",
        lambda good: b"\xff" * 7 + b"\x7f" + good[8:],  # a header of 2⁶³ bytes
        lambda good: b"PK\x03\x04 an archive of something else",
        lambda good: good.replace(b'"data_offsets":[0,', b'"data_offsets":[9,'),
    ],
    ids=("truncated", "header truncated", "empty", "huge header", "other format", "wrong offset"),
)
def test_damaged_files_are_named(tmp_path, damage):
    path = tmp_path / "weights.safetensors"
    save_file(STEM, path)
    good = path.read_bytes()
    assert damage(good) != good
    path.write_bytes(damage(good))
    with pytest.raises(ValueError, match="weights.safetensors is not a safetensors file, or is"):
        load_safetensors(path, template())


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no weights file .*nowhere"):
        load_safetensors(tmp_path / "nowhere", template())


@pytest.fixture(scope="module")
def shallow_weights(tmp_path_factory) -> str:
    """Published shapes, as deep as conv_4."""
    image = jax.ShapeDtypeStruct((1, 75, 75, 3), np.float32)
    shapes = jax.eval_shape(Inception(("conv_4",)).init, jax.random.key(0), image)["params"]
    flat = flax.traverse_util.flatten_dict(shapes, sep="/")
    path = tmp_path_factory.mktemp("weights") / "shallow.safetensors"
    save_file({name: np.ones(leaf.shape, np.float32) for name, leaf in flat.items()}, path)
    return str(path)


def test_a_file_serves_the_layers_it_reaches(shallow_weights):
    params = load_inception(shallow_weights, ("conv_2", "pool_1"))
    assert params["conv_4"]["kernel"].shape == (3, 3, 80, 192)
    message = (
        "shallow.safetensors lacks weights for mixed_10: "
        "it can serve conv, conv_1, conv_2, pool, conv_3, conv_4, pool_1$"
    )
    with pytest.raises(ValueError, match=message):
        load_inception(shallow_weights, ("conv_2", "mixed_10"))
