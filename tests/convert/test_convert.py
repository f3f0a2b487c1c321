"""Other people's weights in, ours out: names, layouts, colours, work directories."""

import functools

import jax
import ml_collections
import numpy as np
import published_case
import pytest
import safetensors.numpy
from published_case import published_files, variables

from diffad_jax.convert import names, perceptual, sources, torch_file, torch_weights, translate
from diffad_jax.convert.errors import ConvertError
from diffad_jax.convert.exporter import export_category
from diffad_jax.convert.importer import import_file
from diffad_jax.inference import calibration
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.diffad import STAGES, networks
from diffad_jax.methods.registry import default_config
from diffad_jax.models.autoencoder import Autoencoder
from diffad_jax.models.discriminator import Discriminator
from diffad_jax.models.lpips import Lpips
from diffad_jax.models.segmenter import Segmenter
from diffad_jax.models.unet import UNet
from diffad_jax.runtime import lock
from diffad_jax.training import checkpoint
from diffad_jax.training.fingerprint import fingerprint

AUTOENCODER = Autoencoder(channels=8, multipliers=(1, 2, 2), num_res_blocks=1)
DENOISER = UNet(
    channels=8, multipliers=(1, 2), num_res_blocks=1, attention_downsampling=(2,), head_channels=8
)
LISTS = {
    "autoencoder": names.autoencoder(AUTOENCODER),
    "diffusers": names.diffusers_autoencoder(AUTOENCODER, old=False),
    "old diffusers": names.diffusers_autoencoder(AUTOENCODER, old=True),
    "denoiser": names.denoiser(DENOISER),
    "denoiser, attention everywhere": names.denoiser(
        DENOISER.clone(attention_downsampling=(1, 2), num_res_blocks=2)
    ),
    "segmenter": names.segmenter(Segmenter(channels=4, multipliers=(1, 2, 2, 2))),
    "discriminator": names.discriminator(Discriminator(channels=4)),
    "lpips": names.lpips(Lpips(channels=4)),
}


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def nothing(name: str) -> bool:
    return False


@pytest.mark.parametrize("pairs", LISTS.values(), ids=LISTS)
def test_ours_to_theirs_to_ours_is_the_identity_through_a_file(pairs, tmp_path):
    ours = variables(pairs)
    torch_file.write(tmp_path / "a.ckpt", translate.to_theirs(ours, pairs))
    tensors = sources.read(tmp_path / "a.ckpt")
    assert_equal(ours, translate.to_ours(tensors, pairs, known=nothing, source="a.ckpt"))


@pytest.mark.parametrize("pairs", LISTS.values(), ids=LISTS)
def test_every_parameter_has_a_name_of_its_own(pairs):
    assert len({p.name for p in pairs}) == len({p.path for p in pairs}) == len(pairs)
    assert len({names.averaged(p.name) for p in pairs}) == len(pairs)


def test_some_published_names_and_layouts():
    """As read off the published code, at full size."""
    expected = {
        names.autoencoder: (Autoencoder(), {
            "encoder.conv_in.weight": (128, 3, 3, 3),
            "encoder.down.1.block.0.nin_shortcut.weight": (256, 128, 1, 1),
            "encoder.down.2.downsample.conv.bias": (512,),
            "encoder.mid.attn_1.proj_out.weight": (512, 512, 1, 1),
            "decoder.up.0.block.2.norm2.weight": (128,),
            "decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
            "quant_conv.weight": (8, 8, 1, 1),
        }, 248),
        names.denoiser: (UNet(), {
            "time_embed.2.weight": (1024, 1024),
            "input_blocks.0.0.weight": (256, 8, 3, 3),
            "input_blocks.3.0.op.weight": (256, 256, 3, 3),
            "input_blocks.4.0.skip_connection.weight": (512, 256, 1, 1),
            "input_blocks.8.1.qkv.weight": (3072, 1024, 1),
            "middle_block.2.out_layers.3.bias": (1024,),
            "output_blocks.2.2.conv.weight": (1024, 1024, 3, 3),
            "output_blocks.8.1.proj_out.weight": (256, 256, 1),
            "out.2.weight": (4, 256, 3, 3),
        }, 306),
        names.segmenter: (Segmenter(), {
            "encoder_segment.block1.0.weight": (64, 9, 3, 3),
            "encoder_segment.block6.4.running_var": (512,),
            "decoder_segment.up_b.1.weight": (512, 512, 3, 3),
            "decoder_segment.db_b.0.weight": (512, 1024, 3, 3),
            "decoder_segment.up4.2.bias": (64,),
            "decoder_segment.db4.3.weight": (64, 64, 3, 3),
            "decoder_segment.fin_out.0.weight": (2, 64, 3, 3),
        }, 164),
        names.discriminator: (Discriminator(), {
            "main.0.weight": (64, 3, 4, 4), "main.8.weight": (512, 256, 4, 4),
            "main.9.running_mean": (512,), "main.11.weight": (1, 512, 4, 4),
        }, 19),
        names.lpips: (Lpips(), {
            "features.28.weight": (512, 512, 3, 3), "lin4.model.1.weight": (1, 512, 1, 1),
        }, 31),
    }  # fmt: skip
    for pairs_of, (module, some, count) in expected.items():
        shapes = {p.name: translate.their_shape(p) for p in pairs_of(module)}
        assert len(shapes) == count
        assert some.items() <= shapes.items()


def test_diffusers_counts_the_way_up_and_has_linear_attention():
    new, old = (
        {p.name: translate.their_shape(p) for p in names.diffusers_autoencoder(AUTOENCODER, old=o)}
        for o in (False, True)
    )
    some = {
        "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": (16, 8, 1, 1),
        "encoder.down_blocks.0.downsamplers.0.conv.weight": (8, 8, 3, 3),
        "decoder.up_blocks.0.upsamplers.0.conv.weight": (16, 16, 3, 3),
        "decoder.up_blocks.2.resnets.1.norm1.weight": (8,),
        "decoder.mid_block.attentions.0.group_norm.bias": (16,),
        "decoder.conv_norm_out.weight": (8,),
    }
    assert some.items() <= new.items() and some.items() <= old.items()
    assert new["encoder.mid_block.attentions.0.to_out.0.weight"] == (16, 16)
    assert old["encoder.mid_block.attentions.0.proj_attn.weight"] == (16, 16)


def test_rgb_into_the_converted_network_is_bgr_into_the_original():
    image = np.random.default_rng(1).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    triples = np.concatenate([image, image**2, 1 - image], axis=-1)
    bgr = triples.reshape(1, 32, 32, 3, 3)[..., ::-1].reshape(triples.shape)

    def both(pairs):
        original = variables(pairs)
        tensors = translate.to_theirs(original, translate.rgb(pairs))
        return original, translate.to_ours(tensors, pairs, known=nothing, source="")

    original, converted = both(LISTS["autoencoder"])
    apply = jax.jit(AUTOENCODER.apply)
    theirs, ours = apply(original, bgr[..., :3]), apply(converted, image)
    np.testing.assert_allclose(ours[..., ::-1], theirs, rtol=1e-5, atol=1e-5)
    assert not np.allclose(ours, theirs, atol=1e-2)

    for network, pairs, rgb_input, bgr_input in (
        (Discriminator(channels=4), LISTS["discriminator"], image, bgr[..., :3]),
        (
            Segmenter(channels=4, multipliers=(1, 2, 2, 2)),
            LISTS["segmenter"],
            triples,
            bgr,
        ),
    ):
        original, converted = both(pairs)
        apply = jax.jit(functools.partial(network.apply, train=False))
        theirs = apply(original, bgr_input)
        np.testing.assert_allclose(apply(converted, rgb_input), theirs, rtol=1e-5, atol=1e-5)
        assert not np.allclose(apply(original, rgb_input), theirs, atol=1e-3)


def test_a_signed_autoencoder_sees_and_gives_the_other_range():
    image = np.random.default_rng(1).uniform(size=(1, 8, 8, 3)).astype(np.float32)
    weights = variables(LISTS["autoencoder"])
    signed = jax.jit(AUTOENCODER.clone(signed=True).apply)(weights, image)
    plain = jax.jit(AUTOENCODER.apply)(weights, 2 * image - 1)
    np.testing.assert_allclose(signed, (plain + 1) / 2, atol=1e-6)


def test_all_that_does_not_fit_is_listed():
    pairs = LISTS["discriminator"]
    tensors = translate.to_theirs(variables(pairs), pairs)
    del tensors["main.0.bias"]
    tensors["main.0.weight"] = tensors["main.0.weight"][:2]
    tensors["main.3.bias"] = np.full_like(tensors["main.3.bias"], np.nan)
    tensors |= {f"stray.{i}": np.zeros(1) for i in range(30)}
    with pytest.raises(ConvertError) as error:
        translate.to_ours(tensors, pairs, known=lambda n: n == "stray.0", source="gan.ckpt")
    text = str(error.value)
    assert text.startswith("gan.ckpt does not fit the config's networks, 32 tensors:")
    assert "main.0.bias is missing" in text and "stray.1 is unknown" in text
    assert text.count("\n") == 21 and text.endswith("... and 12 more")
    tensors = {k: v for k, v in tensors.items() if not k.startswith("stray")}
    with pytest.raises(ConvertError) as error:
        translate.to_ours(tensors, pairs, known=nothing, source="gan.ckpt")
    assert "main.0.weight is (2, 3, 4, 4), must be (4, 3, 4, 4)" in str(error.value)
    assert "main.3.bias holds numbers that are not finite" in str(error.value)


@pytest.fixture
def config(tiny_config) -> ml_collections.ConfigDict:
    return published_case.published(tiny_config)


def test_imported_stages_detect_and_come_out_again(config, tmp_path, capsys):
    written = published_files(config, tmp_path)
    workdir = tmp_path / "run"
    with pytest.raises(checkpoint.CheckpointError, match="no trained autoencoder"):
        import_file(config, workdir, tmp_path / "segmenter.pckl")
    import_file(config, workdir, tmp_path / "denoiser.ckpt")
    import_file(config, workdir, tmp_path / "segmenter.pckl")
    assert "read as trained on BGR in [0, 1]" in capsys.readouterr().out

    frozen, weights = ml_collections.FrozenConfigDict(config), {}
    for stage in STAGES:
        weights[stage.name] = checkpoint.load_weights(stage, frozen, weights, workdir / "tiles")
    pairs = names.denoiser(networks.denoiser(frozen))
    averaged = translate.to_ours(written["average"], pairs, known=nothing, source="")
    assert_equal(averaged["params"], weights["denoiser"]["params"])
    photos = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    detector = Detector.from_workdir(config, workdir, "tiles")
    predicted = detector.predict(photos)
    assert np.isfinite(predicted.score).all() and np.isfinite(predicted.anomaly_map).all()
    chosen = calibration.load_or_choose(config, workdir, "tiles", detector)
    assert chosen.describe_photos().endswith("photos, which the imported weights may have seen")

    export_category(config, workdir, "tiles", tmp_path / "out")
    for name in ("autoencoder.ckpt", "denoiser.ckpt", "segmenter.pckl"):
        before, after = (torch_file.read(folder / name) for folder in (tmp_path, tmp_path / "out"))
        shared = {
            k for k in before if not k.startswith(("loss.", "model_ema.num", "model_ema.dec"))
        }
        shared = {k for k in shared if k != "betas" and not k.endswith("num_batches_tracked")}
        assert len(shared) > 20
        for key in shared:
            np.testing.assert_array_equal(after[key], before[key], err_msg=key)
    denoiser = torch_file.read(tmp_path / "out" / "denoiser.ckpt")
    assert denoiser["model_ema.num_updates"] == config.diffusion.steps


def restore_state(config, directory):
    frozen, stage = ml_collections.FrozenConfigDict(config), STAGES[0]
    checkpoints = checkpoint.Checkpoints(directory / stage.name, keep=1)
    try:
        template = stage.state_shapes(frozen, {})
        mark = fingerprint(stage, frozen, {})
        step = checkpoints.newest_sound_step()
        return checkpoints.restore(step, "state", template, mark, for_training=False)
    finally:
        checkpoints.close()


def test_the_autoencoders_file_also_holds_the_discriminator(config, tmp_path):
    published_files(config, tmp_path)
    import_file(config, tmp_path / "run", tmp_path / "autoencoder.ckpt")
    state = restore_state(config, tmp_path / "run" / "tiles")
    expected = variables(names.discriminator(Discriminator(channels=4)))
    assert_equal(expected["params"], state.params["discriminator"])
    assert_equal(expected["batch_stats"], state.variables["batch_stats"])
    assert state.step == config.autoencoder.steps

    tensors = sources.read(tmp_path / "autoencoder.ckpt")
    frozen = ml_collections.FrozenConfigDict(config)
    assert torch_weights.convert(frozen, tensors, "").keys() == {"autoencoder", "discriminator"}
    config.autoencoder.signed = True
    frozen = ml_collections.FrozenConfigDict(config)  # the discriminator would see another range
    assert torch_weights.convert(frozen, tensors, "").keys() == {"autoencoder"}


def test_a_signed_file_needs_a_signed_config_and_the_other_way_round(config, tmp_path):
    pairs = translate.rgb(names.diffusers_autoencoder(networks.autoencoder(config), old=False))
    original = variables(pairs)
    tensors = translate.to_theirs(original, pairs)
    path = tmp_path / "vae.safetensors"
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
    with pytest.raises(ConvertError, match="set --config.autoencoder.signed=True"):
        import_file(config, tmp_path / "run", path)
    assert not (tmp_path / "run").exists()
    config.autoencoder.signed = True
    import_file(config, tmp_path / "run", path)
    frozen = ml_collections.FrozenConfigDict(config)
    found = checkpoint.load_weights(STAGES[0], frozen, {}, tmp_path / "run" / "tiles")
    assert_equal(original["params"], found["params"])

    published_files(config, tmp_path)
    with pytest.raises(ConvertError, match="set --config.autoencoder.signed=False"):
        import_file(config, tmp_path / "other", tmp_path / "denoiser.ckpt")


def test_half_precision_becomes_single(config):
    pairs = names.autoencoder(networks.autoencoder(config))
    original = translate.to_theirs(variables(pairs), pairs)
    halves = {k: v.astype(np.float16) for k, v in original.items()}
    ours = translate.to_ours(halves, pairs, known=nothing, source="")
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("autoencoder.patch_size", 2, "set --config.autoencoder.patch_size=1"),
        ("diffusion.prediction", "v", "set --config.diffusion.prediction=epsilon"),
        ("diffusion.latent_scale", 0.5, "latents scaled by 1.0: set config.diffusion.latent_scale"),
        ("diffusion.channels", 16, "must be .16, 8, 3, 3."),
        ("categories", ("tiles", "cups"), "one category: --config.categories=tiles"),
    ],
)
def test_a_config_for_something_else_is_refused(config, tmp_path, field, value, message):
    published_files(config, tmp_path)
    section, _, name = field.rpartition(".")
    (config[section] if section else config)[name] = value
    with pytest.raises(ConvertError, match=message):
        import_file(config, tmp_path / "run", tmp_path / "denoiser.ckpt")
    assert not (tmp_path / "run").exists()


def test_another_method_has_no_place_for_the_networks(config, tmp_path):
    published_files(config, tmp_path)
    draem = default_config("draem")
    draem.categories = ("tiles",)
    with pytest.raises(ConvertError, match="config.method = 'draem' has no network autoencoder"):
        import_file(draem, tmp_path / "run", tmp_path / "denoiser.ckpt")
    with pytest.raises(ConvertError, match="has no network autoencoder, which the published code"):
        export_category(draem, tmp_path / "run", "tiles", tmp_path / "out")
    with pytest.raises(ConvertError, match="stage draem trains together: name the other one with"):
        import_file(draem, tmp_path / "run", tmp_path / "segmenter.pckl")
    for name, first in (("padim", "autoencoder"), ("riad", "segmenter")):
        other = default_config(name)
        other.categories = ("tiles",)
        path = next(tmp_path.glob(f"{first}.*"))
        with pytest.raises(ConvertError, match=f"method = '{name}' has no network {first}"):
            import_file(other, tmp_path / "run", path)
    with pytest.raises(ConvertError, match="--second_input is for DRAEM"):
        import_file(config, tmp_path / "run", *tmp_path.glob("[as]*r.*"))
    assert not (tmp_path / "run").exists() and not (tmp_path / "out").exists()


def test_more_interpolated_channels_than_published_are_refused(config, tmp_path):
    published_files(config, tmp_path)
    config.reconstruction.interpolation = (0.3, 0.7)
    with pytest.raises(ConvertError, match="one interpolated channel"):
        import_file(config, tmp_path / "run", tmp_path / "segmenter.pckl")


def test_a_stage_counted_in_epochs_is_finished_too(config, tmp_path):
    published_files(config, tmp_path)
    config.autoencoder.steps = 0
    import_file(config, tmp_path / "run", tmp_path / "autoencoder.ckpt")
    frozen = ml_collections.FrozenConfigDict(config)
    assert checkpoint.load_weights(STAGES[0], frozen, {}, tmp_path / "run" / "tiles")


def test_a_finished_stage_is_not_replaced(config, tmp_path):
    published_files(config, tmp_path)
    import_file(config, tmp_path / "run", tmp_path / "autoencoder.ckpt")
    with pytest.raises(
        ConvertError, match="autoencoder already holds a checkpoint: choose another --workdir"
    ):
        import_file(config, tmp_path / "run", tmp_path / "denoiser.ckpt")


def test_a_folder_that_another_process_writes_to_is_left_alone(config, tmp_path):
    published_files(config, tmp_path)
    (category,) = config.categories
    with (
        lock.hold(tmp_path / "run" / category),
        pytest.raises(lock.LockedError, match="is writing here"),
    ):
        import_file(config, tmp_path / "run", tmp_path / "autoencoder.ckpt")
    assert [p.name for p in (tmp_path / "run" / category).iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alphas_cumprod": np.linspace(1, 0.1, 1000)}, "another noise schedule: 1000 steps"),
        ({"alphas_cumprod": np.zeros(0)}, "damaged: alphas_cumprod is empty"),
        ({"alphas_cumprod": np.full(1000, np.nan)}, "alphas_cumprod holds numbers that are not f"),
        ({"scale_factor": np.zeros(0)}, "damaged: scale_factor is empty"),
        ({"scale_factor": np.ones(2)}, "scale_factor is no single number above 0"),
        ({"scale_factor": np.zeros(())}, "scale_factor is no single number above 0"),
        ({"scale_factor": np.float32(-1)}, "scale_factor is no single number above 0"),
        ({"scale_factor": np.float32(np.inf)}, "scale_factor holds numbers that are not finite"),
        ({"scale_factor": np.array(1j)}, "scale_factor is of type complex128"),
        ({"cond_stage_model.quant_conv.bias": np.ones(8)}, "quant_conv.bias differs from first"),
        ({"model.diffusion_model.label_emb.weight": np.ones(8)}, "label_emb.weight is unknown"),
    ],
)
def test_another_model_than_diffads_is_refused(config, tmp_path, change, message):
    published_files(config, tmp_path)
    tensors = sources.read(tmp_path / "denoiser.ckpt") | change
    with pytest.raises(ConvertError, match=message):
        torch_weights.convert(ml_collections.FrozenConfigDict(config), tensors, "a.ckpt")


def test_without_an_average_an_import_samples_with_the_weights_themselves(config, tmp_path):
    """As the published scripts do."""
    published_files(config, tmp_path)
    config.diffusion.ema_decay = 0.0
    tensors = sources.read(tmp_path / "denoiser.ckpt")
    parts = torch_weights.convert(ml_collections.FrozenConfigDict(config), tensors, "a.ckpt")
    assert_equal(parts["average"], parts["denoiser"])


def test_a_latent_scale_is_moved_to_the_condition(config, tmp_path):
    """The published code hands the condition to the network unscaled; ours scales it."""
    published_files(config, tmp_path)
    config.diffusion.latent_scale = 0.0  # whatever the file says
    frozen = ml_collections.FrozenConfigDict(config)
    tensors = sources.read(tmp_path / "denoiser.ckpt")
    plain = torch_weights.convert(frozen, tensors, "")
    scaled = torch_weights.convert(frozen, tensors | {"scale_factor": np.float32(0.25)}, "")
    assert (plain["scale"], scaled["scale"]) == (1.0, 0.25)
    z, condition = np.random.default_rng(0).standard_normal((2, 1, 4, 4, 4)).astype(np.float32)
    apply, t = jax.jit(networks.denoiser(frozen).apply), np.array([5])
    theirs = apply(plain["denoiser"], np.concatenate([z, condition], -1), t)
    ours = apply(scaled["denoiser"], np.concatenate([z, 0.25 * condition], -1), t)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("main.3.running_var", lambda x: -1 - x, "holds a negative variance"),
        ("main.3.weight", lambda x: np.full(x.shape, 1e300), "holds numbers that are not finite"),
        ("main.3.weight", lambda x: x.astype(np.int8), "is of type int8, not of a floating one"),
        ("main.3.weight", lambda x: x > 0, "is of type bool, not of a floating one"),
        ("main.0.weight", lambda x: x + 1j, "is of type complex64, not of a floating one"),
    ],
)
def test_impossible_weights_are_refused(name, change, message):
    pairs = LISTS["discriminator"]
    tensors = translate.to_theirs(variables(pairs), pairs)
    tensors[name] = change(tensors[name])
    with pytest.raises(ConvertError, match=f"{name} {message}"):
        translate.to_ours(tensors, pairs, known=nothing, source="gan.ckpt")


def test_vgg16_and_the_heads_are_one_network(tmp_path):
    module = Lpips(channels=4)
    pairs = LISTS["lpips"]
    original = variables(pairs)
    tensors = translate.to_theirs(original, pairs)
    heads = {k: v for k, v in tensors.items() if k.startswith("lin")}
    vgg = {k: v for k, v in tensors.items() if k.startswith("features")}
    torch_file.write(tmp_path / "vgg,heads.pth", heads, bare=True)  # a comma is part of a name
    classifier = {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    torch_file.write(tmp_path / "vgg16.pth", vgg | classifier, bare=True)
    with pytest.raises(ConvertError, match="lin0.model.1.weight is missing"):
        perceptual.read_lpips(tmp_path / "vgg16.pth", tmp_path / "vgg16.pth", module)
    read = perceptual.read_lpips(tmp_path / "vgg16.pth", tmp_path / "vgg,heads.pth", module)
    assert_equal(original["params"], read)
    with pytest.raises(ConvertError, match="must be .64, 3, 3, 3."):
        perceptual.read_lpips(tmp_path / "vgg16.pth", tmp_path / "vgg,heads.pth", Lpips())
