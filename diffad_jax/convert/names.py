"""The published networks' names for our parameters, for any width and depth.

Each list is made from the module's own parameters, so it is complete, and it serves both
directions. Sources: CompVis latent-diffusion (autoencoder, denoiser), taming-transformers
(discriminator), DRAEM (segmenter), diffusers' ``AutoencoderKL``, torchvision's VGG16, LPIPS,
DINOv2.
"""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from diffad_jax.models import layers
from diffad_jax.models.autoencoder import Autoencoder
from diffad_jax.models.dinov2 import LAYERS, PATCH, Dinov2
from diffad_jax.models.discriminator import Discriminator
from diffad_jax.models.lpips import DEPTHS, Lpips
from diffad_jax.models.reconstructor import Reconstructor
from diffad_jax.models.segmenter import Segmenter
from diffad_jax.models.unet import UNet

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var",
           "ls1": "ls1.gamma", "ls2": "ls2.gamma"}  # fmt: skip
_BLOCK = {"norm_1": "norm1", "conv_1": "conv1", "norm_2": "norm2", "conv_2": "conv2"}


@dataclasses.dataclass(frozen=True)
class Pair:
    """One tensor in both worlds.

    Attributes:
      path: ours, collection first: ("params", "encoder", "conv_in", "kernel").
      shape: ours.
      name: theirs.
      layout: how theirs is laid out: conv (OIHW), conv_1d (OI1), linear (OI), head (1C11);
        as ours: tokens (1NC), vector.
      colour: our axis that holds colour channels in threes; None where there is none.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    name: str
    layout: str
    colour: int | None = None


def autoencoder(module: Autoencoder) -> list[Pair]:
    """The names of latent-diffusion's ``AutoencoderKL``."""
    words = _BLOCK | {
        "shortcut": "nin_shortcut",
        "query": "q", "key": "k", "value": "v", "out": "proj_out",
        "middle_res_0": "mid.block_1", "middle_attention": "mid.attn_1",
        "middle_res_1": "mid.block_2",
    }  # fmt: skip
    for level in range(len(module.multipliers)):
        words[f"down_{level}_downsample"] = f"down.{level}.downsample.conv"
        words[f"up_{level}_upsample"] = f"up.{level}.upsample.conv"
        for i in range(module.num_res_blocks + 1):
            words[f"down_{level}_res_{i}"] = f"down.{level}.block.{i}"
            words[f"up_{level}_res_{i}"] = f"up.{level}.block.{i}"
    return _autoencoder(module, words)


def diffusers_autoencoder(module: Autoencoder, *, old: bool) -> list[Pair]:
    """The names of diffusers' ``AutoencoderKL``; ``old``: as before 2023, with query for to_q."""
    attention = {"query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0"}
    if old:
        attention = {"query": "query", "key": "key", "value": "value", "out": "proj_attn"}
    linear = tuple(attention)
    words = _BLOCK | attention | {
        "norm": "group_norm",
        "shortcut": "conv_shortcut", "norm_out": "conv_norm_out",
        "middle_res_0": "mid_block.resnets.0", "middle_res_1": "mid_block.resnets.1",
        "middle_attention": "mid_block.attentions.0",
    }  # fmt: skip
    last = len(module.multipliers) - 1
    for level in range(last + 1):
        up = f"up_blocks.{last - level}"  # counted in the order in which they run
        words[f"down_{level}_downsample"] = f"down_blocks.{level}.downsamplers.0.conv"
        words[f"up_{level}_upsample"] = f"{up}.upsamplers.0.conv"
        for i in range(module.num_res_blocks + 1):
            words[f"down_{level}_res_{i}"] = f"down_blocks.{level}.resnets.{i}"
            words[f"up_{level}_res_{i}"] = f"{up}.resnets.{i}"
    return _autoencoder(module, words, lambda path: "linear" if path[-2] in linear else "")


def discriminator(module: Discriminator) -> list[Pair]:
    """The names of taming-transformers' ``NLayerDiscriminator``."""
    words = {"conv_in": "main.0", "conv_out": f"main.{3 * module.num_layers + 2}"}
    for i in range(1, module.num_layers + 1):
        words[f"block_{i}/conv"] = f"main.{3 * i - 1}"
        words[f"block_{i}/norm"] = f"main.{3 * i}"
    image = _zeros(4 * 2**module.num_layers, 3)
    return _pairs(module, (image,), words, colours={"conv_in/kernel": 2}, train=False)


def denoiser(module: UNet) -> list[Pair]:
    """The names of guided diffusion's ``UNetModel`` as in latent-diffusion.

    Its qkv channels have the legacy order (head, q | k | v, channel), which is ours too.
    """
    words = {
        "time_0": "time_embed.0", "time_1": "time_embed.2", "conv_in": "input_blocks.0.0",
        "norm_out": "out.0", "conv_out": "out.2",
        "middle_res_0": "middle_block.0", "middle_attention": "middle_block.1",
        "middle_res_1": "middle_block.2",
        "norm_1": "in_layers.0", "conv_1": "in_layers.2", "time": "emb_layers.1",
        "norm_2": "out_layers.0", "conv_2": "out_layers.3",
        "shortcut": "skip_connection", "out": "proj_out",
    }  # fmt: skip
    levels, blocks = len(module.multipliers), module.num_res_blocks
    for level in range(levels):
        down = 1 + level * (blocks + 1)  # a downsampling counts as a block
        for i in range(blocks):
            words[f"down_{level}_res_{i}"] = f"input_blocks.{down + i}.0"
            words[f"down_{level}_attention_{i}"] = f"input_blocks.{down + i}.1"
        words[f"down_{level}_downsample"] = f"input_blocks.{down + blocks}.0.op"
        up = (levels - 1 - level) * (blocks + 1)
        for i in range(blocks + 1):
            words[f"up_{level}_res_{i}"] = f"output_blocks.{up + i}.0"
            words[f"up_{level}_attention_{i}"] = f"output_blocks.{up + i}.1"
        after = 2 if 2**level in module.attention_downsampling else 1  # in the level's last block
        words[f"up_{level}_upsample"] = f"output_blocks.{up + blocks}.{after}.conv"

    def layout(path: tuple[str, ...]) -> str:
        return "conv_1d" if path[-2] in ("qkv", "out") else ""

    inputs = (_zeros(2**levels, 2 * module.out_channels), np.zeros(1, np.int32))
    return _pairs(module, inputs, words, layout)


def averaged(name: str) -> str:
    """The name of a tensor's moving average beside ``model.diffusion_model.NAME``."""
    return "model_ema.diffusion_model" + name.replace(".", "")


def segmenter(module: Segmenter, channels: int = 9) -> list[Pair]:
    """The names of DRAEM's ``DiscriminativeSubNetwork``, of an input of so many channels."""
    words = {"conv_out": "decoder_segment.fin_out.0"}
    last = len(module.multipliers) - 1
    for level in range(last + 1):
        step = str(last - 1 - level) if level < last - 1 else "_b"  # _b, 1, 2 ... on the way up
        words |= _draem_block(f"down_{level}", 0, f"encoder_segment.block{level + 1}.0")
        words |= _draem_block(f"down_{level}", 1, f"encoder_segment.block{level + 1}.3")
        words |= _draem_block(f"up_{level}", 0, f"decoder_segment.up{step}.1")  # 0: the upsampling
        words |= _draem_block(f"merge_{level}", 0, f"decoder_segment.db{step}.0")
        words |= _draem_block(f"merge_{level}", 1, f"decoder_segment.db{step}.3")
    image = _zeros(module.patch_size * 2**last, channels)
    return _pairs(module, (image,), words, colours={"down_0/conv_0/kernel": 2}, train=False)


def reconstructor(module: Reconstructor) -> list[Pair]:
    """The names of DRAEM's ``ReconstructiveSubNetwork``."""
    words = {"conv_out": "decoder.fin_out.0"}
    last = len(module.multipliers) - 1
    for level in range(last + 1):
        words |= _draem_block(f"down_{level}", 0, f"encoder.block{level + 1}.0")
        words |= _draem_block(f"down_{level}", 1, f"encoder.block{level + 1}.3")
        step = last - level  # 1, 2 ... on the way up
        words |= _draem_block(f"up_{level}", 0, f"decoder.up{step}.1")  # 0: the upsampling
        words |= _draem_block(f"up_{level}", 1, f"decoder.db{step}.0")
        words |= _draem_block(f"narrow_{level}", 0, f"decoder.db{step}.3")
    colours = {"down_0/conv_0/kernel": 2, "conv_out/kernel": 3, "conv_out/bias": 0}
    image = _zeros(module.patch_size * 2**last, 3)
    return _pairs(module, (image,), words, colours=colours, train=False)


def lpips(module: Lpips) -> list[Pair]:
    """torchvision's names for VGG16's convs, and those of LPIPS for the heads."""
    words, index = {}, 0
    for stage, depth in enumerate(DEPTHS):
        for i in range(depth):
            words[f"stage_{stage}/conv_{i}"] = f"features.{index}"
            index += 2  # a ReLU follows each
        index += 1  # a pooling follows each stage
        words[f"head_{stage}"] = f"lin{stage}.model.1.weight"
    return _pairs(module, (_zeros(16, 3), _zeros(16, 3)), words)


def dinov2(module: Dinov2) -> list[Pair]:
    """The names of the published code."""
    words = {name: name for name in ("cls_token", "pos_embed", "register_tokens")}
    words |= {"patch_embed": "patch_embed.proj", "qkv": "attn.qkv", "proj": "attn.proj",
              "fc1": "mlp.fc1", "fc2": "mlp.fc2"}  # fmt: skip
    words |= {name: f"blocks.{i}" for i, name in enumerate(LAYERS)}
    return _pairs(module, (_zeros(PATCH, 3),), words)


def _autoencoder(
    module: Autoencoder,
    words: dict[str, str],
    layout: Callable[[tuple[str, ...]], str] | None = None,
) -> list[Pair]:
    colours = {
        "encoder/conv_in/kernel": 2,
        "decoder/conv_out/kernel": 3,
        "decoder/conv_out/bias": 0,
    }
    image = _zeros(layers.reduction(module.patch_size, len(module.multipliers)), 3)
    return _pairs(module, (image,), words, layout, colours)


def _draem_block(block: str, i: int, theirs: str) -> dict[str, str]:
    """A conv and, next in the sequence, its norm."""
    sequence, _, place = theirs.rpartition(".")
    return {f"{block}/conv_{i}": theirs, f"{block}/norm_{i}": f"{sequence}.{int(place) + 1}"}


def _pairs(
    module: nn.Module,
    inputs: tuple,
    words: dict[str, str],
    layout: Callable[[tuple[str, ...]], str] | None = None,
    colours: Mapping[str, int] = {},
    **arguments,
) -> list[Pair]:
    """Names every parameter of ``module``.

    Args:
      module: of ``diffad_jax.models``.
      inputs: arrays of a size that the module takes.
      words: our name of a part (or several names joined by "/") -> theirs, where these differ.
      layout: the layout of the kernel at a path, or "" for the usual one.
      colours: path without collection -> our axis that holds colours.
      arguments: of the module's call.
    """
    init = lambda *inputs: module.init(jax.random.key(0), *inputs, **arguments)  # noqa: E731
    pairs = []
    for path, leaf in flax.traverse_util.flatten_dict(jax.eval_shape(init, *inputs)).items():
        inner, last = "/".join(path[1:-1]), path[-1]
        name = words.get(inner) or ".".join(words.get(part, part) for part in path[1:-1])
        name = f"{name}.{_LEAVES.get(last, last)}" if inner else words[last]
        kinds = {1: "vector" if inner else "head", 2: "linear", 3: "tokens", 4: "conv"}
        unusual = layout(path) if layout and last == "kernel" else ""
        colour = colours.get("/".join(path[1:]))
        pairs.append(Pair(path, leaf.shape, name, unusual or kinds[len(leaf.shape)], colour))
    return pairs


def _zeros(side: int, channels: int) -> np.ndarray:
    return np.zeros((1, side, side, channels), np.float32)
