"""DINOv2 in PyTorch, written from the papers; parameters are named as in the published files."""

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(*qkv)
        return self.proj(found.transpose(1, 2).flatten(2))


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.gamma * x


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn, self.mlp = Attention(width, heads), Mlp(width)
        self.ls1, self.ls2 = Scale(width), Scale(width)

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Embedding(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Conv2d(3, width, 14, 14)


class Dinov2(nn.Module):
    def __init__(self, network):
        super().__init__()
        width, self.grid, self.registers = network.width, network.grid, network.registers
        depth = max(int(name.removeprefix("block")) for name in network.names)
        self.patch_embed = Embedding(width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # of training alone
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, width))
        if self.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, self.registers, width))
        self.blocks = nn.ModuleList(Block(width, network.heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def positions(self, size):
        """The networks without registers were published with a scale, the others with a size."""
        square = self.pos_embed[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        if tuple(size) != (self.grid, self.grid):
            how = {"size": tuple(size), "antialias": True}
            if not self.registers:
                how = {"scale_factor": tuple((n + 0.1) / self.grid for n in size)}
            square = F.interpolate(square, mode="bicubic", **how)
        return square

    def forward(self, image):
        mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        x = (image - image.new_tensor(mean)[:, None, None]) / image.new_tensor(std)[:, None, None]
        x = self.patch_embed.proj(x)
        size = x.shape[2:]
        x = (x + self.positions(size)).flatten(2).transpose(1, 2)
        tokens = [self.cls_token + self.pos_embed[:, :1]]
        tokens += [self.register_tokens] if self.registers else []
        x = torch.cat([*(t.expand(len(x), -1, -1) for t in tokens), x], dim=1)
        found = {}
        for i, block in enumerate(self.blocks, 1):
            x = block(x)
            patches = self.norm(x)[:, 1 + self.registers :]
            found[f"block{i}"] = patches.transpose(1, 2).unflatten(2, size)
        return found
