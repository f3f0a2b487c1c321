"""The addresses where trained weights of the networks are published.

Their publishers give no full SHA-256: torchvision's files carry its first eight digits in their
names, DINOv2's none. Several independent projects state the hashes here for these addresses, and
each of torchvision's begins with the digits in the name. The heads of LPIPS were hashed from the
repository itself, at this commit.
"""

from diffad_jax.runtime.download import Remote

_TORCHVISION = "https://download.pytorch.org/models"
_DINOV2 = "https://dl.fbaipublicfiles.com/dinov2"
_LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity"
PUBLISHED = {
    "dinov2_vitb14": Remote(
        f"{_DINOV2}/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
        346_378_731,
        "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    ),
    "dinov2_vitb14_reg": Remote(
        f"{_DINOV2}/dinov2_vitb14/dinov2_vitb14_reg4_pretrain.pth",
        346_393_545,
        "73182a088cf94833c94b1666d1c99e02fe87e2007bff57b564fb6206e25dba71",
    ),
    "dinov2_vits14": Remote(
        f"{_DINOV2}/dinov2_vits14/dinov2_vits14_pretrain.pth",
        88_283_115,
        "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    ),
    "dinov2_vits14_reg": Remote(
        f"{_DINOV2}/dinov2_vits14/dinov2_vits14_reg4_pretrain.pth",
        88_291_785,
        "f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb",
    ),
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
