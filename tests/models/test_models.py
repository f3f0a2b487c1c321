"""Networks: published parameter counts, shapes, dtypes, and properties of their pieces."""

import functools
import math

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffad_jax.models import layers
from diffad_jax.models.autoencoder import Autoencoder, Decoder, Encoder
from diffad_jax.models.discriminator import Discriminator
from diffad_jax.models.lpips import Lpips
from diffad_jax.models.segmenter import Segmenter
from diffad_jax.models.unet import UNet, timestep_embedding

KEY = jax.random.key(0)
SMALL_AUTOENCODER = functools.partial(Autoencoder, channels=8, multipliers=(1, 2), num_res_blocks=1)
SMALL_ENCODER = functools.partial(Encoder, channels=8, multipliers=(1,), num_res_blocks=1)
SMALL_UNET = functools.partial(
    UNet, channels=8, multipliers=(1, 2), num_res_blocks=1, attention_downsampling=(2,),
    head_channels=8,
)  # fmt: skip
SMALL_SEGMENTER = functools.partial(Segmenter, channels=4, multipliers=(1, 2))


def shape(*sides: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sides, dtype)


def shapes_of(module, *inputs, **kwargs):
    """(output, variables) of a network as shapes: no memory is spent."""
    return jax.eval_shape(functools.partial(module.init_with_output, **kwargs), KEY, *inputs)


def num_parameters(module, *inputs, **kwargs) -> int:
    _, variables = shapes_of(module, *inputs, **kwargs)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


IMAGE = shape(1, 256, 256, 3)


@pytest.mark.parametrize(
    ("module", "inputs", "kwargs", "expected"),
    [  # the published ones; LPIPS: the convs of VGG16 and a weight for each compared feature
        (Encoder(), (IMAGE,), {}, 34_163_592),
        (Decoder(), (shape(1, 32, 32, 4),), {}, 49_490_179),
        (Autoencoder(), (IMAGE,), {}, 34_163_592 + 49_490_179 + 72 + 20),
        (UNet(), (shape(1, 32, 32, 8), shape(1, dtype=jnp.int32)), {}, 257_742_340),
        (Segmenter(), (shape(1, 256, 256, 9),), {"train": False}, 28_375_874),
        (Discriminator(), (IMAGE,), {"train": False}, 2_765_633),
        (Lpips(), (IMAGE, IMAGE), {}, 14_714_688 + 1_472),
    ],
    ids=("encoder", "decoder", "autoencoder", "unet", "segmenter", "discriminator", "lpips"),
)
def test_parameter_count_is_the_published_one(module, inputs, kwargs, expected):
    assert num_parameters(module, *inputs, **kwargs) == expected


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_autoencoder_shapes(patch_size):
    model = SMALL_AUTOENCODER(latent_channels=3, patch_size=patch_size)
    image = shape(2, 16, 24, 3)
    reconstruction, variables = shapes_of(model, image)
    assert reconstruction.shape == image.shape
    moments = jax.eval_shape(lambda v, x: model.apply(v, x, method="encode"), variables, image)
    f = 2 * patch_size
    assert [m.shape for m in moments] == [(2, 16 // f, 24 // f, 3)] * 2


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_segmenter_shape(patch_size):
    model = SMALL_SEGMENTER(patch_size=patch_size)
    logits, variables = shapes_of(model, shape(2, 16, 24, 9), train=False)
    assert logits.shape == (2, 16, 24, 2)
    assert set(variables) == {"params", "batch_stats"}


def test_other_shapes():
    output, _ = shapes_of(SMALL_UNET(out_channels=5), shape(2, 8, 6, 7), shape(2))
    assert output.shape == (2, 8, 6, 5)
    logits, _ = shapes_of(Discriminator(channels=4), shape(2, 64, 64, 3), train=True)
    assert logits.shape == (2, 6, 6, 1)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="shrinks an image by 8 .* 20 x 16"):
        shapes_of(SMALL_SEGMENTER(patch_size=4), shape(1, 20, 16, 9), train=False)
    with pytest.raises(ValueError, match="5 x 8 does not divide into patches of 2 x 2"):
        shapes_of(SMALL_AUTOENCODER(patch_size=2), shape(1, 5, 8, 3))
    with pytest.raises(ValueError, match="16 channels cannot have heads of 5"):
        shapes_of(SMALL_UNET(head_channels=5), shape(1, 8, 8, 8), shape(1))


@pytest.mark.parametrize("name", ["encoder", "unet", "segmenter"])
def test_bfloat16_compute_stays_near_float32_and_keeps_float32_parameters(name):
    build, inputs, kwargs = {
        "encoder": (SMALL_ENCODER, (random_image(3),), {}),
        "unet": (SMALL_UNET, (random_image(8), jnp.array([3, 900])), {}),
        "segmenter": (SMALL_SEGMENTER, (random_image(9),), {"train": False}),
    }[name]

    def run(model, variables):
        return model.apply(variables, *inputs, **kwargs)

    model = build(dtype=jnp.bfloat16)
    _, shapes = shapes_of(model, *inputs, **kwargs)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    variables = random_weights(shapes)
    output = jax.jit(functools.partial(run, model))(variables)
    exact = jax.jit(functools.partial(run, build()))(variables)
    assert output.dtype == jnp.float32
    assert jnp.max(jnp.abs(output - exact)) < 0.05 * jnp.max(jnp.abs(exact))
    assert not jnp.array_equal(output, exact)


def test_remat_changes_neither_weights_nor_gradients_nor_statistics():
    stacked = random_image(9)

    def loss(model, params, variables):
        variables = {**variables, "params": params}
        logits, updated = model.apply(variables, stacked, train=True, mutable=["batch_stats"])
        return jnp.sum(logits**2), updated

    variables = random_weights(shapes_of(SMALL_SEGMENTER(), stacked, train=False)[1])
    kept, again = (
        jax.jit(jax.grad(functools.partial(loss, model), has_aux=True))(
            variables["params"], variables
        )
        for model in (SMALL_SEGMENTER(), SMALL_SEGMENTER(remat=True))
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), kept, again)
    for build, inputs, kwargs in (
        (SMALL_AUTOENCODER, (random_image(3),), {}),
        (SMALL_UNET, (random_image(8), shape(2)), {}),
        (functools.partial(Discriminator, channels=4), (shape(1, 32, 32, 3),), {"train": True}),
        (functools.partial(Lpips, channels=4), (shape(1, 32, 32, 3),) * 2, {}),
    ):
        plain = shapes_of(build(), *inputs, **kwargs)
        assert shapes_of(build(remat=True), *inputs, **kwargs) == plain


def test_dropout_is_random_while_training_and_absent_otherwise():
    model = SMALL_ENCODER(dropout=0.5)
    image = random_image(3)
    variables = random_weights(shapes_of(model, image)[1])

    @functools.partial(jax.jit, static_argnums=1)
    def encode(key, deterministic):
        return model.apply(variables, image, deterministic=deterministic, rngs={"dropout": key})

    one, two = jax.random.split(KEY)
    assert jnp.array_equal(encode(one, True), encode(two, True))
    assert jnp.array_equal(encode(one, False), encode(one, False))
    assert not jnp.array_equal(encode(one, False), encode(two, False))


def test_last_convs_of_the_denoiser_start_at_zero():
    @jax.jit
    def initial_last_convs():
        params = SMALL_UNET().init(KEY, jnp.zeros((1, 4, 4, 8)), jnp.zeros(1))["params"]
        flat = flax.traverse_util.flatten_dict(params)
        return {k: v for k, v in flat.items() if k[-2] in ("conv_2", "out", "conv_out")}

    kernels = {path: kernel for path, kernel in initial_last_convs().items() if kernel.ndim == 4}
    assert len(kernels) == 8 + 4 + 1  # residual blocks, attention blocks, the output
    assert not any(kernel.any() for kernel in kernels.values())


def test_denoiser_sees_the_timestep():
    model = SMALL_UNET()
    latents = random_image(8)
    variables = random_weights(shapes_of(model, latents, jnp.zeros(2))[1])
    run = jax.jit(model.apply)
    at_5, at_6 = (run(variables, latents, jnp.array([5, t])) for t in (5, 6))
    assert jnp.array_equal(at_5[0], at_6[0])
    assert not jnp.array_equal(at_5[1], at_6[1])


def test_the_denoisers_linear_skip_passes_its_input_on_and_starts_at_zero():
    model = SMALL_UNET(linear_skip=True)
    x, t = random_image(8), jnp.array([7, 900])
    params = jax.jit(model.init)(KEY, x, t)["params"]
    run = jax.jit(model.apply)
    np.testing.assert_array_equal(run({"params": params}, x, t), jnp.zeros((2, 8, 8, 4)))
    # The condition is the answer: the blocks still add nothing.
    params["skip"]["kernel"] = jnp.eye(8, 4, -4)[None, None]
    params["skip_gain"] = jax.tree.map(jnp.zeros_like, params["skip_gain"])
    np.testing.assert_allclose(run({"params": params}, x, t), x[..., 4:], rtol=1e-6)
    # However far the condition is off, a gate can shut it out.
    params["skip_gate"]["bias"] = jnp.array([-20.0, 0.0, 0.0, 0.0])
    shut = run({"params": params}, 1e3 * x, t)
    np.testing.assert_allclose(shut[..., 0], jnp.zeros((2, 8, 8)), atol=1e-4)
    np.testing.assert_allclose(shut[..., 1:], 1e3 * x[..., 5:], rtol=1e-6)


def test_timestep_embedding_closed_form():
    embedding = timestep_embedding(jnp.array([0, 3]), 4)
    expected = [[1, 1, 0, 0], [np.cos(3), np.cos(0.03), np.sin(3), np.sin(0.03)]]
    np.testing.assert_allclose(embedding, expected, rtol=1e-5, atol=1e-7)


def test_num_groups_is_32_at_every_published_width():
    widths = {64 * n for n in (2, 4, 8)} | {256 * n for n in range(1, 9)}
    assert {layers.num_groups(width) for width in widths} == {32}
    assert [layers.num_groups(width) for width in (2, 6, 8, 12, 32, 48)] == [1, 1, 2, 2, 8, 8]


def test_group_norm_normalises_each_group():
    x = 5 + 3 * random_image(8)
    norm = layers.GroupNorm(1e-6)
    y = norm.apply(norm.init(KEY, x), x)
    groups = y.reshape(2, -1, 2, 4)
    np.testing.assert_allclose(groups.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.std((1, 3)), 1, rtol=1e-3)


def test_bilinear_upsampling_is_exact_on_a_plane_and_keeps_the_corners():
    rows, columns = jnp.meshgrid(jnp.linspace(0, 1, 3), jnp.linspace(0, 1, 5), indexing="ij")
    fine_rows, fine_columns = jnp.meshgrid(
        jnp.linspace(0, 1, 6), jnp.linspace(0, 1, 10), indexing="ij"
    )
    up = layers.upsample_bilinear((2 * rows - 3 * columns)[None, :, :, None])[0, :, :, 0]
    np.testing.assert_allclose(up, 2 * fine_rows - 3 * fine_columns, atol=1e-6)
    single = layers.upsample_bilinear(jnp.full((1, 1, 1, 1), 7.0))
    np.testing.assert_allclose(single, np.full((1, 2, 2, 1), 7.0))


def test_resampling_pieces():
    x = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(2, 4, 6, 3)
    assert jnp.array_equal(layers.pixel_shuffle(layers.space_to_depth(x, 2), 2), x)
    assert jnp.array_equal(layers.space_to_depth(x, 2)[0, 0, 0, 3:6], x[0, 0, 1])
    assert jnp.array_equal(layers.max_pool(x), x[:, 1::2, 1::2])  # values grow along both axes
    assert jnp.array_equal(layers.max_pool(layers.upsample_nearest(x)), x)
    assert layers.max_pool(x[:, :3, :5]).shape == (2, 1, 2, 3)


def test_gradient_of_max_pool_goes_to_the_first_of_equal_maxima():
    x = jnp.array([[1.0, 2.0, 0.0, 0.0], [2.0, 0.0, 0.0, 3.0]])[None, :, :, None]
    gradient = jax.grad(lambda x: layers.max_pool(x).sum())(x)[0, :, :, 0]
    np.testing.assert_array_equal(gradient, [[0, 1, 0, 0], [0, 0, 0, 1]])


def test_lpips_is_zero_for_equal_images_with_a_finite_gradient():
    model = Lpips(channels=4)
    image = random_image(3, side=16)
    variables = random_weights(shapes_of(model, image, image)[1])
    dark = {"params": jax.tree.map(jnp.zeros_like, variables["params"])}
    total = jax.jit(jax.value_and_grad(lambda v, x, y: jnp.sum(model.apply(v, x, y)), argnums=1))
    assert total(variables, image, image)[0] < 1e-12
    assert total(variables, image, 1 - image)[0] > 0
    assert jnp.isfinite(total(dark, image, 1 - image)[1]).all()  # all features are zero


def random_image(channels: int, side: int = 8) -> jax.Array:
    return jax.random.uniform(KEY, (2, side, side, channels))


def random_weights(shapes):
    """Kernels of a sensible size everywhere, also where a network starts at zero."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        normal = random.standard_normal(leaf.shape, np.float32)
        if path[-1] in ("scale", "var"):
            return 1 + abs(normal) / 10
        if path[-1] == "kernel":
            return normal / np.sqrt(math.prod(leaf.shape[:-1]), dtype=np.float32)
        return abs(normal) / 10  # biases and running means; the heads of LPIPS are positive

    return flax.traverse_util.path_aware_map(draw, shapes)


def test_the_error_function_is_that_of_python():
    x = np.linspace(-5.0, 5.0, 1001, dtype=np.float32)
    wanted = [math.erf(value) for value in x.tolist()]
    np.testing.assert_allclose(layers.error_function(x), wanted, atol=6e-7)
