"""Where trained weights of the networks are published.

Torchvision's files carry the first eight digits of their SHA-256 in their names. The whole digests
here are those that several independent projects state for these addresses, and each begins as its
file's name says. The heads of LPIPS were hashed from the repository itself, at this commit.
"""

from diffad_jax.runtime.download import Remote

_TORCHVISION = "https://download.pytorch.org/models"
_LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity"
PUBLISHED = {
    "resnet18": Remote(
        f"{_TORCHVISION}/resnet18-f37072fd.pth",
        46_830_571,
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
    "wide_resnet50_2": Remote(
        f"{_TORCHVISION}/wide_resnet50_2-95faca4d.pth",
        138_223_492,
        "95faca4d11227dddf8633dbb5ff6c8a9003c1aa5b8945c73834b8007b10950b8",
    ),
    "vgg16": Remote(
        f"{_TORCHVISION}/vgg16-397923af.pth",
        553_433_881,
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    "lpips": Remote(
        f"{_LPIPS}/082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/vgg.pth",
        7_289,
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    ),
}
