"""The published networks' module trees in PyTorch, written from their descriptions.

Parameters have the published names (those of the ``nn.Module`` attributes below); the tests load
exported weights into them and compare. Group counts follow ``layers.num_groups``.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from diffad_jax.models.layers import num_groups


def norm(channels, epsilon):
    return nn.GroupNorm(num_groups(channels), channels, eps=epsilon)


def conv(before, after, width=3, **kwargs):
    return nn.Conv2d(before, after, width, padding=width // 2, **kwargs)


class Tree(nn.Module):
    """A module with the given children."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class ImageBlock(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.norm1, self.conv1 = norm(before, 1e-6), conv(before, after)
        self.norm2, self.conv2 = norm(after, 1e-6), conv(after, after)
        self.nin_shortcut = conv(before, after, 1) if before != after else nn.Identity()

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class ImageAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels, 1e-6)
        self.q, self.k, self.v, self.proj_out = (conv(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).mT for layer in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.proj_out(h.mT.reshape(x.shape))


def middle(width):
    return Tree(
        block_1=ImageBlock(width, width),
        attn_1=ImageAttention(width),
        block_2=ImageBlock(width, width),
    )


def through_middle(mid, h):
    return mid.block_2(mid.attn_1(mid.block_1(h)))


class Encoder(nn.Module):
    def __init__(self, fields):
        super().__init__()
        width, levels = fields.channels, []
        self.conv_in = conv(3, width)
        for level, multiplier in enumerate(fields.multipliers):
            after, blocks = fields.channels * multiplier, nn.ModuleList()
            for _ in range(fields.num_res_blocks):
                blocks.append(ImageBlock(width, after))
                width = after
            children = {"block": blocks}
            if level < len(fields.multipliers) - 1:
                children["downsample"] = Tree(conv=nn.Conv2d(width, width, 3, stride=2))
            levels.append(Tree(**children))
        self.down = nn.ModuleList(levels)
        self.mid = middle(width)
        self.norm_out, self.conv_out = norm(width, 1e-6), conv(width, 2 * fields.latent_channels)

    def forward(self, x):
        h = self.conv_in(x)
        for level in self.down:
            for block in level.block:
                h = block(h)
            if hasattr(level, "downsample"):
                h = level.downsample.conv(F.pad(h, (0, 1, 0, 1)))
        return self.conv_out(F.silu(self.norm_out(through_middle(self.mid, h))))


class Decoder(nn.Module):
    def __init__(self, fields):
        super().__init__()
        width, levels = fields.channels * fields.multipliers[-1], {}
        self.conv_in, self.mid = conv(fields.latent_channels, width), middle(width)
        for level in reversed(range(len(fields.multipliers))):
            after, blocks = fields.channels * fields.multipliers[level], nn.ModuleList()
            for _ in range(fields.num_res_blocks + 1):
                blocks.append(ImageBlock(width, after))
                width = after
            children = {"block": blocks}
            if level > 0:
                children["upsample"] = Tree(conv=conv(width, width))
            levels[level] = Tree(**children)
        self.up = nn.ModuleList([levels[level] for level in sorted(levels)])
        self.norm_out, self.conv_out = norm(width, 1e-6), conv(width, 3)

    def forward(self, z):
        h = through_middle(self.mid, self.conv_in(z))
        for level in reversed(self.up):
            for block in level.block:
                h = block(h)
            if hasattr(level, "upsample"):
                h = level.upsample.conv(F.interpolate(h, scale_factor=2.0))
        return self.conv_out(F.silu(self.norm_out(h)))


class AutoencoderKL(nn.Module):
    def __init__(self, fields):
        super().__init__()
        channels = fields.latent_channels
        self.encoder, self.decoder = Encoder(fields), Decoder(fields)
        self.quant_conv = conv(2 * channels, 2 * channels, 1)
        self.post_quant_conv = conv(channels, channels, 1)

    def forward(self, image):
        mean = self.quant_conv(self.encoder(image)).chunk(2, dim=1)[0]
        return self.decoder(self.post_quant_conv(mean))


class TimedBlock(nn.Module):
    def __init__(self, before, after, time):
        super().__init__()
        self.in_layers = nn.Sequential(norm(before, 1e-5), nn.SiLU(), conv(before, after))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, after))
        self.out_layers = nn.Sequential(
            norm(after, 1e-5), nn.SiLU(), nn.Dropout(0.0), conv(after, after)
        )
        self.skip_connection = conv(before, after, 1) if before != after else nn.Identity()

    def forward(self, x, time):
        h = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class HeadsAttention(nn.Module):
    """Heads are split off first, then q, k and v (the "legacy" order)."""

    def __init__(self, channels, head_channels):
        super().__init__()
        self.heads = channels // head_channels
        self.norm = norm(channels, 1e-5)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat)).unflatten(1, (self.heads, 3, -1))
        h = F.scaled_dot_product_attention(*(qkv[:, :, i].mT for i in range(3)))
        return (flat + self.proj_out(h.mT.flatten(1, 2))).view_as(x)


class UNetModel(nn.Module):
    def __init__(self, fields):
        super().__init__()
        self.fields, width = fields, fields.channels
        time, last = 4 * width, len(fields.multipliers) - 1
        self.time_embed = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.input_blocks = nn.ModuleList([nn.ModuleList([conv(2 * fields.out_channels, width)])])
        skips = [width]
        for level, multiplier in enumerate(fields.multipliers):
            for _ in range(fields.num_res_blocks):
                self.input_blocks.append(self._blocks(width, fields.channels * multiplier, level))
                width = fields.channels * multiplier
                skips.append(width)
            if level < last:
                self.input_blocks.append(nn.ModuleList([Tree(op=conv(width, width, stride=2))]))
                skips.append(width)
        self.middle_block = nn.ModuleList(
            [
                TimedBlock(width, width, time),
                HeadsAttention(width, fields.head_channels),
                TimedBlock(width, width, time),
            ]
        )
        self.output_blocks = nn.ModuleList()
        for level in range(last, -1, -1):
            after = fields.channels * fields.multipliers[level]
            for i in range(fields.num_res_blocks + 1):
                blocks = self._blocks(width + skips.pop(), after, level)
                width = after
                if level > 0 and i == fields.num_res_blocks:
                    blocks.append(Tree(conv=conv(width, width)))
                self.output_blocks.append(blocks)
        self.out = nn.Sequential(norm(width, 1e-5), nn.SiLU(), conv(width, fields.out_channels))

    def _blocks(self, before, after, level):
        blocks = nn.ModuleList([TimedBlock(before, after, 4 * self.fields.channels)])
        if 2**level in self.fields.attention_downsampling:
            blocks.append(HeadsAttention(after, self.fields.head_channels))
        return blocks

    def forward(self, x, t):
        half = self.fields.channels // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half) / half)
        angles = t.float()[:, None] * frequencies[None]
        time = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        h, skips = x, []
        for blocks in self.input_blocks:
            h = self._run(blocks, h, time)
            skips.append(h)
        h = self._run(self.middle_block, h, time)
        for blocks in self.output_blocks:
            h = self._run(blocks, torch.cat([h, skips.pop()], dim=1), time)
        return self.out(h)

    def _run(self, blocks, h, time):
        for block in blocks:
            if isinstance(block, TimedBlock):
                h = block(h, time)
            elif hasattr(block, "op"):
                h = block.op(h)
            elif isinstance(block, Tree):
                h = block.conv(F.interpolate(h, scale_factor=2.0))
            else:
                h = block(h)
        return h


def double(before, after):
    return nn.Sequential(
        conv(before, after), nn.BatchNorm2d(after), nn.ReLU(),
        conv(after, after), nn.BatchNorm2d(after), nn.ReLU(),
    )  # fmt: skip


def enlarge(before, after):
    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    return nn.Sequential(up, conv(before, after), nn.BatchNorm2d(after), nn.ReLU())


class DiscriminativeSubNetwork(nn.Module):
    """Six levels, 1-2-4-8-8-8 times ``base`` wide."""

    def __init__(self, base):
        super().__init__()
        w = [9, *(base * m for m in (1, 2, 4, 8, 8, 8))]
        self.encoder_segment = Tree(**{f"block{i}": double(w[i - 1], w[i]) for i in range(1, 7)})
        decoder = {"up_b": enlarge(w[6], w[5]), "db_b": double(w[5] + w[5], w[5])}
        for step, (below, beside, after) in enumerate(
            [(w[5], w[4], w[3]), (w[3], w[3], w[2]), (w[2], w[2], w[1]), (w[1], w[1], w[1])], 1
        ):
            decoder[f"up{step}"] = enlarge(below, after)
            decoder[f"db{step}"] = double(after + beside, after)
        self.decoder_segment = Tree(**decoder, fin_out=nn.Sequential(conv(base, 2)))

    def forward(self, x):
        maps = []
        for block in self.encoder_segment.children():
            x = block(F.max_pool2d(x, 2) if maps else x)
            maps.append(x)
        maps.pop()
        for step in ("_b", "1", "2", "3", "4"):
            x = torch.cat([getattr(self.decoder_segment, f"up{step}")(x), maps.pop()], dim=1)
            x = getattr(self.decoder_segment, f"db{step}")(x)
        return self.decoder_segment.fin_out(x)


class NLayerDiscriminator(nn.Module):
    def __init__(self, channels):
        super().__init__()
        width, layers = channels, [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        for multiplier, stride in ((2, 2), (4, 2), (8, 1)):
            after = channels * multiplier
            layers += [nn.Conv2d(width, after, 4, stride, 1, bias=False), nn.BatchNorm2d(after)]
            layers.append(nn.LeakyReLU(0.2))
            width = after
        self.main = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))

    def forward(self, x):
        return self.main(x)
