"""Inception-v3 of 2015-12-05 in PyTorch, written from its description: towers as strings.

``320 / 3x3`` is a convolution to 320 channels, ``v`` (valid) leaves the padding out, ``2`` halves
the map as well. The names of a tower's convolutions are those of the published graph.
"""

import torch
import torch.nn.functional as F
from torch import nn

STEM = {
    "conv": "32/3x3/v2",
    "conv_1": "32/3x3/v",
    "conv_2": "64/3x3",
    "pool": "max",
    "conv_3": "80/1x1",
    "conv_4": "192/3x3/v",
    "pool_1": "max",
}


def block_a(pooled):
    return {
        "conv": ["64/1x1"],
        "tower_conv": ["48/1x1", "64/5x5"],
        "tower_1_conv": ["64/1x1", "96/3x3", "96/3x3"],
        "tower_2_conv": ["average", f"{pooled}/1x1"],
    }


def block_c(width):
    across, down = f"{width}/1x7", f"{width}/7x1"
    return {
        "conv": ["192/1x1"],
        "tower_conv": [f"{width}/1x1", across, "192/7x1"],
        "tower_1_conv": [f"{width}/1x1", down, across, down, "192/1x7"],
        "tower_2_conv": ["average", "192/1x1"],
    }


def block_e(pool):
    fork = ["fork", "384/1x3", "384/3x1"]
    return {
        "conv": ["320/1x1"],
        "tower_conv": ["384/1x1", *fork],
        "tower_1_conv": ["448/1x1", "384/3x3", *fork],
        "tower_2_conv": [pool, "192/1x1"],
    }


BLOCKS = {
    "mixed": block_a(32),
    "mixed_1": block_a(64),
    "mixed_2": block_a(64),
    "mixed_3": {
        "conv": ["384/3x3/v2"],
        "tower_conv": ["64/1x1", "96/3x3", "96/3x3/v2"],
        "pool": ["max"],
    },
    "mixed_4": block_c(128),
    "mixed_5": block_c(160),
    "mixed_6": block_c(160),
    "mixed_7": block_c(192),
    "mixed_8": {
        "tower_conv": ["192/1x1", "320/3x3/v2"],
        "tower_1_conv": ["192/1x1", "192/1x7", "192/7x1", "192/3x3/v2"],
        "pool": ["max"],
    },
    "mixed_9": block_e("average"),
    "mixed_10": block_e("same max"),
}
POOLS = {
    "max": lambda x: F.max_pool2d(x, 3, 2),
    "same max": lambda x: F.max_pool2d(x, 3, 1, padding=1),
    "average": lambda x: F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False),
}


class Inception(nn.ModuleDict):
    """``forward`` gives the last of the layers in ``fields.names``, ``features`` all of them."""

    def __init__(self, fields):
        super().__init__()
        self.fields = fields
        order = [*STEM, *BLOCKS]
        self.layers = order[: max(order.index(name) for name in fields.names) + 1]
        width = 3
        for layer in self.layers:
            if layer in STEM:
                width = self._add(layer, STEM[layer], width)
            else:
                towers = BLOCKS[layer].items()
                width = sum(self._add_tower(f"{layer}_{n}", convs, width) for n, convs in towers)

    def _add(self, name, description, before):
        if description in POOLS:
            return before
        features, size, *flags = description.split("/")
        height, across = map(int, size.split("x"))
        after = int(features) * self.fields.channels // 32
        self[name] = nn.Conv2d(
            before,
            after,
            (height, across),
            stride=2 if "v2" in flags else 1,
            padding=0 if flags else (height // 2, across // 2),
        )
        return after

    def _add_tower(self, name, descriptions, width):
        if "fork" in descriptions:
            at = descriptions.index("fork")
            width = self._add_tower(name, descriptions[:at], width)
            return sum(self._add(fork, descriptions[at + 1 + i], width) for i, fork in forks(name))
        convs = [d for d in descriptions if d not in POOLS]
        for i, description in enumerate(convs):
            width = self._add(numbered(name, i), description, width)
        return width

    def features(self, image):
        h = (image * 255 - 128) / 128
        maps = {}
        for layer in self.layers:
            if layer in STEM:
                h = self._run(layer, STEM[layer], h)
            else:
                towers = BLOCKS[layer].items()
                h = torch.cat([self._run_tower(f"{layer}_{n}", t, h) for n, t in towers], dim=1)
            maps[layer] = h
        return {name: maps[name] for name in self.fields.names}

    def _run(self, name, description, x):
        return POOLS[description](x) if description in POOLS else F.relu(self[name](x))

    def _run_tower(self, name, descriptions, x):
        convs = 0
        for description in descriptions:
            if description == "fork":
                return torch.cat([F.relu(self[fork](x)) for _, fork in forks(name)], dim=1)
            x = self._run(numbered(name, convs), description, x)
            convs += description not in POOLS
        return x

    def forward(self, image):
        return self.features(image)[self.fields.names[-1]]


class InceptionDistance(Inception):
    def forward(self, image, reference):
        total = torch.zeros(len(image), dtype=image.dtype)
        ours, theirs = self.features(image), self.features(reference)
        for name in self.fields.names:
            total = total + (unit(ours[name]) - unit(theirs[name])).square().mean((1, 2, 3))
        return total


def numbered(name, i):
    return f"{name}_{i}" if i else name


def forks(name):
    """(0, …_mixed_conv), (1, …_mixed_conv_1): the two convs in which a tower ends."""
    stem = name.removesuffix("conv")
    return [(i, numbered(f"{stem}mixed_conv", i)) for i in range(2)]


def unit(x):
    return x / (x.square().sum(1, keepdim=True).clamp(min=1e-20).sqrt() + 1e-10)
