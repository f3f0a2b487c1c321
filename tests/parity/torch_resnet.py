"""ResNets in PyTorch, written from the papers; sub-modules are named as torchvision's."""

import torch.nn.functional as F
from torch import nn

from diffad_jax.models.resnet import LAYERS


class Block(nn.Module):
    def __init__(self, inputs, width, strides, network):
        super().__init__()
        outputs = 4 * width if network.bottleneck else width
        if network.bottleneck:
            inner = width * network.inner_width
            sizes = [(inputs, inner, 1, 1), (inner, inner, 3, strides), (inner, outputs, 1, 1)]
        else:
            sizes = [(inputs, width, 3, strides), (width, width, 3, 1)]
        self.depth = len(sizes)
        for i, (before, after, size, step) in enumerate(sizes, 1):
            conv = nn.Conv2d(before, after, size, step, padding=size // 2, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(after))
        self.downsample = None
        if strides > 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, strides, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x):
        h = x
        for i in range(1, self.depth + 1):
            h = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(h))
            h = F.relu(h) if i < self.depth else h
        return F.relu(h + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, network):
        super().__init__()
        width = network.channels
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for i, name in enumerate(LAYERS):
            blocks = []
            for j in range(network.blocks[i]):
                blocks.append(Block(inputs, width * 2**i, 2 if i and not j else 1, network))
                inputs = width * 2**i * (4 if network.bottleneck else 1)
            self.add_module(name, nn.Sequential(*blocks))

    def forward(self, image):
        mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        x = (image - image.new_tensor(mean)[:, None, None]) / image.new_tensor(std)[:, None, None]
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        found = {}
        for name in LAYERS:
            found[name] = x = getattr(self, name)(x)
        return found
