"""Other people's weights in, ours out: names, layouts, colours."""

import functools

import jax
import numpy as np
import pytest
from published_case import assert_equal, nothing, variables

from diffad_jax.convert import names, perceptual, sources, torch_file, translate
from diffad_jax.convert.errors import ConvertError
from diffad_jax.models.autoencoder import Autoencoder
from diffad_jax.models.discriminator import Discriminator
from diffad_jax.models.lpips import Lpips
from diffad_jax.models.segmenter import Segmenter
from diffad_jax.models.unet import UNet

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
