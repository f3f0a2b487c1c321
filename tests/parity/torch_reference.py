"""The networks in PyTorch, written from their descriptions; sub-modules are named as in Flax.

The tests compare with them and ``benchmarks/torch_training.py`` times them. Each is a
``ModuleDict``, so a parameter's key is its Flax path with dots.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
import torch_inception
import torch_judges
from torch import nn

from diffad_jax.models.layers import num_groups


def build(module) -> nn.Module:
    """The PyTorch twin of a Flax module of ``diffad_jax.models``."""
    return {
        "Autoencoder": Autoencoder,
        "UNet": UNet,
        "Reconstructor": Reconstructor,
        "Segmenter": Segmenter,
        "Discriminator": torch_judges.Discriminator,
        "Lpips": torch_judges.Lpips,
        "Inception": torch_inception.Inception,
        "InceptionDistance": torch_inception.InceptionDistance,
    }[type(module).__name__](module)


def to_torch(path: tuple[str, ...], value: np.ndarray) -> tuple[str, torch.Tensor]:
    """A Flax parameter (path without the collection) as an entry of a state dict."""
    names = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    key = ".".join((*path[:-1], names.get(path[-1], path[-1])))
    return key, torch.from_numpy(np.array(_to_torch_axes(value), order="C"))


def _to_torch_axes(value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value.T if value.ndim == 2 else value


def load(network: nn.Module, flat_variables: dict) -> None:
    """Loads Flax variables, flattened to {(collection, *path): array}; none may be left over."""
    state = dict(to_torch(path[1:], value) for path, value in flat_variables.items())
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)


def to_patches(x, size):
    """The channels of a patch are ordered (row, column, channel)."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // size, size, w // size, size).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(b, size * size * c, h // size, w // size)


def from_patches(x, size):
    b, c, h, w = x.shape
    x = x.view(b, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(b, c // size**2, h * size, w * size)


def dense(linear, x):
    """A linear layer at every place of [b, c, h, w]."""
    return linear(x.movedim(1, -1)).movedim(-1, 1)


def factor(fields):
    return fields.patch_size * 2 ** (len(fields.multipliers) - 1)


class Norm(nn.GroupNorm):
    def __init__(self, channels, epsilon):
        super().__init__(num_groups(channels), channels, eps=epsilon)


class AutoencoderBlock(nn.ModuleDict):
    def __init__(self, before, after, dropout):
        super().__init__()
        self.dropout = dropout
        self["norm_1"] = Norm(before, 1e-6)
        self["conv_1"] = nn.Conv2d(before, after, 3, padding=1)
        self["norm_2"] = Norm(after, 1e-6)
        self["conv_2"] = nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self["shortcut"] = nn.Conv2d(before, after, 1)

    def forward(self, x):
        h = self["conv_1"](F.silu(self["norm_1"](x)))
        h = F.dropout(F.silu(self["norm_2"](h)), self.dropout, self.training)
        h = self["conv_2"](h)
        return h + (self["shortcut"](x) if "shortcut" in self else x)


class SingleHeadAttention(nn.ModuleDict):
    def __init__(self, channels):
        super().__init__()
        self["norm"] = Norm(channels, 1e-6)
        for name in ("query", "key", "value", "out"):
            self[name] = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        h = self["norm"](x)
        q, k, v = (self[name](h).flatten(2).mT[:, None] for name in ("query", "key", "value"))
        h = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self["out"](h.mT.reshape(x.shape))


class Encoder(nn.ModuleDict):
    def __init__(self, fields):
        super().__init__()
        self.fields = fields
        width, dropout = fields.channels, fields.dropout
        self["conv_in"] = nn.Conv2d(3 * fields.patch_size**2, width, 3, padding=1)
        for level, multiplier in enumerate(fields.multipliers):
            for i in range(fields.num_res_blocks):
                after = fields.channels * multiplier
                self[f"down_{level}_res_{i}"] = AutoencoderBlock(width, after, dropout)
                width = after
            if level < len(fields.multipliers) - 1:
                self[f"down_{level}_downsample"] = nn.Conv2d(width, width, 3, stride=2)
        self["middle_res_0"] = AutoencoderBlock(width, width, dropout)
        self["middle_attention"] = SingleHeadAttention(width)
        self["middle_res_1"] = AutoencoderBlock(width, width, dropout)
        self["norm_out"] = Norm(width, 1e-6)
        self["conv_out"] = nn.Conv2d(width, 2 * fields.latent_channels, 3, padding=1)
        if fields.linear_skip:
            self["skip"] = nn.Linear(3 * factor(fields) ** 2, 2 * fields.latent_channels)

    def forward(self, x):
        h = self["conv_in"](to_patches(x, self.fields.patch_size))
        for level in range(len(self.fields.multipliers)):
            for i in range(self.fields.num_res_blocks):
                h = self[f"down_{level}_res_{i}"](h)
            if f"down_{level}_downsample" in self:
                h = self[f"down_{level}_downsample"](F.pad(h, (0, 1, 0, 1)))
        for name in ("middle_res_0", "middle_attention", "middle_res_1"):
            h = self[name](h)
        h = self["conv_out"](F.silu(self["norm_out"](h)))
        if self.fields.linear_skip:
            h = h + dense(self["skip"], to_patches(x, factor(self.fields)))
        return h


class Decoder(nn.ModuleDict):
    def __init__(self, fields):
        super().__init__()
        self.fields = fields
        width, dropout = fields.channels * fields.multipliers[-1], fields.dropout
        self["conv_in"] = nn.Conv2d(fields.latent_channels, width, 3, padding=1)
        self["middle_res_0"] = AutoencoderBlock(width, width, dropout)
        self["middle_attention"] = SingleHeadAttention(width)
        self["middle_res_1"] = AutoencoderBlock(width, width, dropout)
        for level in range(len(fields.multipliers) - 1, -1, -1):
            after = fields.channels * fields.multipliers[level]
            for i in range(fields.num_res_blocks + 1):
                self[f"up_{level}_res_{i}"] = AutoencoderBlock(width, after, dropout)
                width = after
            if level > 0:
                self[f"up_{level}_upsample"] = nn.Conv2d(width, width, 3, padding=1)
        self["norm_out"] = Norm(width, 1e-6)
        self["conv_out"] = nn.Conv2d(width, 3 * fields.patch_size**2, 3, padding=1)
        if fields.linear_skip:
            self["skip"] = nn.Linear(fields.latent_channels, 3 * factor(fields) ** 2)

    def forward(self, z):
        h = self["conv_in"](z)
        for name in ("middle_res_0", "middle_attention", "middle_res_1"):
            h = self[name](h)
        for level in range(len(self.fields.multipliers) - 1, -1, -1):
            for i in range(self.fields.num_res_blocks + 1):
                h = self[f"up_{level}_res_{i}"](h)
            if level > 0:
                h = self[f"up_{level}_upsample"](F.interpolate(h, scale_factor=2.0))
        h = self["conv_out"](F.silu(self["norm_out"](h)))
        image = from_patches(h, self.fields.patch_size)
        if self.fields.linear_skip:
            image = image + from_patches(dense(self["skip"], z), factor(self.fields))
        return image


class Autoencoder(nn.ModuleDict):
    def __init__(self, fields):
        super().__init__()
        channels = fields.latent_channels
        self["encoder"] = Encoder(fields)
        self["decoder"] = Decoder(fields)
        self["quant_conv"] = nn.Conv2d(2 * channels, 2 * channels, 1)
        self["post_quant_conv"] = nn.Conv2d(channels, channels, 1)

    def encode(self, image):
        mean, logvar = self["quant_conv"](self["encoder"](image)).chunk(2, dim=1)
        return torch.cat([mean, logvar.clamp(-30, 20)], dim=1)

    def decode(self, z):
        return self["decoder"](self["post_quant_conv"](z))


class DenoiserBlock(nn.ModuleDict):
    def __init__(self, before, after, time):
        super().__init__()
        self["norm_1"] = Norm(before, 1e-5)
        self["conv_1"] = nn.Conv2d(before, after, 3, padding=1)
        self["time"] = nn.Linear(time, after)
        self["norm_2"] = Norm(after, 1e-5)
        self["conv_2"] = nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self["shortcut"] = nn.Conv2d(before, after, 1)

    def forward(self, x, time):
        h = self["conv_1"](F.silu(self["norm_1"](x)))
        h = h + self["time"](F.silu(time)).unsqueeze(-1).unsqueeze(-1)
        h = self["conv_2"](F.silu(self["norm_2"](h)))
        return h + (self["shortcut"](x) if "shortcut" in self else x)


class MultiHeadAttention(nn.ModuleDict):
    """The channels of ``qkv`` are heads × (q, k, v) × channels of a head."""

    def __init__(self, channels, head_channels):
        super().__init__()
        self.heads = channels // head_channels
        self["norm"] = Norm(channels, 1e-5)
        self["qkv"] = nn.Conv2d(channels, 3 * channels, 1)
        self["out"] = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        qkv = self["qkv"](self["norm"](x)).flatten(2).unflatten(1, (self.heads, 3, -1))
        h = F.scaled_dot_product_attention(*(qkv[:, :, i].mT for i in range(3)))
        return x + self["out"](h.mT.reshape(x.shape))


class UNet(nn.ModuleDict):
    def __init__(self, fields):
        super().__init__()
        self.fields = fields
        width = fields.channels
        self["time_0"] = nn.Linear(width, 4 * width)
        self["time_1"] = nn.Linear(4 * width, 4 * width)
        self["conv_in"] = nn.Conv2d(2 * fields.out_channels, width, 3, padding=1)
        skips = [width]
        for level, multiplier in enumerate(fields.multipliers):
            for i in range(fields.num_res_blocks):
                self._add(f"down_{level}", i, width, fields.channels * multiplier, level)
                width = fields.channels * multiplier
                skips.append(width)
            if level < len(fields.multipliers) - 1:
                self[f"down_{level}_downsample"] = nn.Conv2d(width, width, 3, stride=2, padding=1)
                skips.append(width)
        self["middle_res_0"] = DenoiserBlock(width, width, 4 * fields.channels)
        self["middle_attention"] = MultiHeadAttention(width, fields.head_channels)
        self["middle_res_1"] = DenoiserBlock(width, width, 4 * fields.channels)
        for level in range(len(fields.multipliers) - 1, -1, -1):
            after = fields.channels * fields.multipliers[level]
            for i in range(fields.num_res_blocks + 1):
                self._add(f"up_{level}", i, width + skips.pop(), after, level)
                width = after
            if level > 0:
                self[f"up_{level}_upsample"] = nn.Conv2d(width, width, 3, padding=1)
        self["norm_out"] = Norm(width, 1e-5)
        self["conv_out"] = nn.Conv2d(width, fields.out_channels, 3, padding=1)
        if fields.linear_skip:
            self["skip_gain"] = nn.Linear(4 * fields.channels, 2 * fields.out_channels)
            self["skip"] = nn.Conv2d(2 * fields.out_channels, fields.out_channels, 1)
            self["skip_gate"] = nn.Conv2d(width, fields.out_channels, 3, padding=1)

    def _add(self, place, i, before, after, level):
        self[f"{place}_res_{i}"] = DenoiserBlock(before, after, 4 * self.fields.channels)
        if 2**level in self.fields.attention_downsampling:
            self[f"{place}_attention_{i}"] = MultiHeadAttention(after, self.fields.head_channels)

    def _apply_blocks(self, place, i, h, time):
        h = self[f"{place}_res_{i}"](h, time)
        attention = f"{place}_attention_{i}"
        return self[attention](h) if attention in self else h

    def forward(self, x, t):
        half = self.fields.channels // 2
        steps = torch.arange(half, dtype=x.dtype, device=x.device)
        frequencies = torch.exp(-math.log(10_000) * steps / half)
        angles = torch.outer(t.to(x.dtype), frequencies)
        time = torch.cat([angles.cos(), angles.sin()], dim=1)
        time = self["time_1"](F.silu(self["time_0"](time)))
        h = self["conv_in"](x)
        skips = [h]
        for level in range(len(self.fields.multipliers)):
            for i in range(self.fields.num_res_blocks):
                h = self._apply_blocks(f"down_{level}", i, h, time)
                skips.append(h)
            if f"down_{level}_downsample" in self:
                h = self[f"down_{level}_downsample"](h)
                skips.append(h)
        h = self["middle_res_0"](h, time)
        h = self["middle_res_1"](self["middle_attention"](h), time)
        for level in range(len(self.fields.multipliers) - 1, -1, -1):
            for i in range(self.fields.num_res_blocks + 1):
                h = torch.cat([h, skips.pop()], dim=1)
                h = self._apply_blocks(f"up_{level}", i, h, time)
            if level > 0:
                h = self[f"up_{level}_upsample"](F.interpolate(h, scale_factor=2.0))
        h = F.silu(self["norm_out"](h))
        out = self["conv_out"](h)
        if self.fields.linear_skip:
            gain = 1 + self["skip_gain"](F.silu(time)).unsqueeze(-1).unsqueeze(-1)
            out = out + 2 * torch.sigmoid(self["skip_gate"](h)) * self["skip"](x * gain)
        return out


class SegmenterBlock(nn.ModuleDict):
    def __init__(self, before, after, depth):
        super().__init__()
        self.depth = depth
        for i in range(depth):
            self[f"conv_{i}"] = nn.Conv2d(before if i == 0 else after, after, 3, padding=1)
            self[f"norm_{i}"] = nn.BatchNorm2d(after)

    def forward(self, x):
        for i in range(self.depth):
            x = F.relu(self[f"norm_{i}"](self[f"conv_{i}"](x)))
        return x


class Segmenter(nn.ModuleDict):
    def __init__(self, fields, in_channels=9):
        super().__init__()
        widths = [fields.channels * multiplier for multiplier in fields.multipliers]
        self.levels, self.patch_size = len(widths), fields.patch_size
        before = in_channels * fields.patch_size**2
        for level, width in enumerate(widths):
            self[f"down_{level}"] = SegmenterBlock(before, width, 2)
            before = width
        for level in range(self.levels - 2, -1, -1):
            width = widths[level - 1] if level > 0 else widths[0]
            self[f"up_{level}"] = SegmenterBlock(before, width, 1)
            self[f"merge_{level}"] = SegmenterBlock(width + widths[level], width, 2)
            before = width
        after = fields.num_classes * fields.patch_size**2
        self["conv_out"] = nn.Conv2d(before, after, 3, padding=1)

    def forward(self, x):
        maps = [self["down_0"](to_patches(x, self.patch_size))]
        for level in range(1, self.levels):
            maps.append(self[f"down_{level}"](F.max_pool2d(maps[-1], 2)))
        h = maps[-1]
        for level in range(self.levels - 2, -1, -1):
            h = F.interpolate(h, scale_factor=2.0, mode="bilinear", align_corners=True)
            h = torch.cat([self[f"up_{level}"](h), maps[level]], dim=1)
            h = self[f"merge_{level}"](h)
        return from_patches(self["conv_out"](h), self.patch_size)


class Reconstructor(nn.ModuleDict):
    def __init__(self, fields):
        super().__init__()
        widths = [fields.channels * multiplier for multiplier in fields.multipliers]
        self.levels, self.patch_size = len(widths), fields.patch_size
        before = 3 * fields.patch_size**2
        for level, width in enumerate(widths):
            self[f"down_{level}"] = SegmenterBlock(before, width, 2)
            before = width
        for level in range(self.levels - 2, -1, -1):
            after = widths[level - 1] if level > 0 else widths[0]
            self[f"up_{level}"] = SegmenterBlock(before, before, 2)
            self[f"narrow_{level}"] = SegmenterBlock(before, after, 1)
            before = after
        self["conv_out"] = nn.Conv2d(before, 3 * fields.patch_size**2, 3, padding=1)

    def forward(self, x):
        h = self["down_0"](to_patches(x, self.patch_size))
        for level in range(1, self.levels):
            h = self[f"down_{level}"](F.max_pool2d(h, 2))
        for level in range(self.levels - 2, -1, -1):
            h = F.interpolate(h, scale_factor=2.0, mode="bilinear", align_corners=True)
            h = self[f"narrow_{level}"](self[f"up_{level}"](h))
        return from_patches(self["conv_out"](h), self.patch_size)
