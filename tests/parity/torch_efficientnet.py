"""EfficientNet-Lite in PyTorch, from TensorFlow's description; named as in the published files.

TensorFlow pads "SAME": what is odd goes to the bottom and the right.
"""

import torch
import torch.nn.functional as F
from torch import nn

# Kernel size, stride of the first block, expansion: the stages of EfficientNet-B0.
STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))


def same(x: torch.Tensor, size: int, strides: int) -> torch.Tensor:
    pads = []
    for n in (x.shape[3], x.shape[2]):
        total = max((-(-n // strides) - 1) * strides + size - n, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Block(nn.Module):
    def __init__(self, inputs, outputs, size, strides, expansion):
        super().__init__()
        inner = inputs * expansion
        self.size, self.strides, self.adds = size, strides, strides == 1 and inputs == outputs
        self._expand_conv = None
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(inner, inner, size, strides, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        h = x
        if self._expand_conv is not None:
            h = F.relu6(self._bn0(self._expand_conv(h)))
        h = F.relu6(self._bn1(self._depthwise_conv(same(h, self.size, self.strides))))
        h = self._bn2(self._project_conv(h))
        return h + x if self.adds else h


class EfficientNetLite(nn.Module):
    def __init__(self, network):
        super().__init__()
        self._conv_stem = nn.Conv2d(3, network.channels, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(network.channels, eps=1e-3)
        self.blocks, inputs, blocks = network.blocks, network.channels, []
        for count, width, (size, strides, expansion) in zip(
            network.blocks, network.widths, STAGES, strict=True
        ):
            for j in range(count):
                blocks.append(Block(inputs, width, size, 1 if j else strides, expansion))
                inputs = width
        self._blocks = nn.ModuleList(blocks)

    def forward(self, image):
        x = F.relu6(self._bn0(self._conv_stem(same((255 * image - 127) / 128, 3, 2))))
        found, blocks = {}, iter(self._blocks)
        for i, count in enumerate(self.blocks):
            for _ in range(count):
                x = next(blocks)(x)
            found[f"stage{i + 1}"] = x
        return found
