"""The networks of stage 1's losses in PyTorch, as ``torch_reference``'s."""

import torch
import torch.nn.functional as F
from torch import nn


class DiscriminatorBlock(nn.ModuleDict):
    def __init__(self, before, after, stride):
        super().__init__()
        self["conv"] = nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False)
        self["norm"] = nn.BatchNorm2d(after)

    def forward(self, x):
        return F.leaky_relu(self["norm"](self["conv"](x)), 0.2)


class Discriminator(nn.ModuleDict):
    def __init__(self, fields):
        super().__init__()
        self.num_layers = fields.num_layers
        widths = [fields.channels * min(2**i, 8) for i in range(fields.num_layers + 1)]
        self["conv_in"] = nn.Conv2d(3, widths[0], 4, stride=2, padding=1)
        for i in range(1, fields.num_layers + 1):
            stride = 1 if i == fields.num_layers else 2
            self[f"block_{i}"] = DiscriminatorBlock(widths[i - 1], widths[i], stride)
        self["conv_out"] = nn.Conv2d(widths[-1], 1, 4, padding=1)

    def forward(self, x):
        h = F.leaky_relu(self["conv_in"](x), 0.2)
        for i in range(1, self.num_layers + 1):
            h = self[f"block_{i}"](h)
        return self["conv_out"](h)


class Lpips(nn.ModuleDict):
    DEPTHS = (2, 2, 3, 3, 3)

    def __init__(self, fields):
        super().__init__()
        before = 3
        for stage, multiplier in enumerate(fields.multipliers):
            width = fields.channels * multiplier
            convs = nn.ModuleDict()
            for i in range(self.DEPTHS[stage]):
                convs[f"conv_{i}"] = nn.Conv2d(before, width, 3, padding=1)
                before = width
            self[f"stage_{stage}"] = convs
            self.register_parameter(f"head_{stage}", nn.Parameter(torch.zeros(width)))

    def forward(self, image, reference):
        total = image.new_zeros(len(image))
        pairs = zip(self._features(image), self._features(reference), strict=True)
        for stage, (ours, theirs) in enumerate(pairs):
            head = getattr(self, f"head_{stage}").view(1, -1, 1, 1)
            total = total + ((ours - theirs) ** 2 * head).sum(1).mean((1, 2))
        return total

    def _features(self, image):
        shift = image.new_tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        scale = image.new_tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
        h = (image - shift) / scale
        for stage, depth in enumerate(self.DEPTHS):
            if stage > 0:
                h = F.max_pool2d(h, 2)
            for i in range(depth):
                h = F.relu(self[f"stage_{stage}"][f"conv_{i}"](h))
            yield h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10)
