"""PaDiM (ICPR 2020 workshops) on MVTec AD: fitted in one pass, without gradients.

Command:   python -m diffad_jax.main --config=configs/padim.py:bottle --workdir=runs/padim \\
             --config.data.root=data/mvtec --config.backbone.weights=FILE
Hardware:  2 CPU cores
Result:    not measured
"""

import ml_collections

from configs import mvtec


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    config = fitted("padim", category)
    config.backbone = backbone()
    config.padim = padim()
    return config.lock()


def fitted(method: str, category: str | None) -> ml_collections.ConfigDict:
    """What all methods share that are fitted, not trained; unlocked."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.method = method
    config.categories = tuple(category.split(",")) if category else mvtec.CATEGORIES
    config.image_size = 256
    config.data = mvtec.photos()
    config.evaluation = mvtec.evaluation()
    config.training = mvtec.computing()
    config.mesh = mvtec.mesh()
    del config.evaluation.smoothing  # of probabilities; distances have a smoothing_sigma
    return config


def backbone() -> ml_collections.ConfigDict:
    """Whose features; trained by others."""
    c = ml_collections.ConfigDict()
    c.name = "inception_v3"  # resnet18 | wide_resnet50_2 | inception_v3
    c.weights = ""  # a file with its weights: safetensors, or torchvision's .pth for a ResNet
    # From the shallowest to the deepest: models/inception.py, models/resnet.py list them. The paper
    # takes layer1, layer2, layer3 of a ResNet: maps 4, 8 and 16 times smaller than the photo.
    c.layers = ("conv_4", "mixed_2", "mixed_7")
    return c


def padim() -> ml_collections.ConfigDict:
    """As published for ResNet-18."""
    c = ml_collections.ConfigDict()
    c.reduction = "random"  # random choice of channels | orthogonal projection
    c.dimensions = 100  # of the reduced features
    c.regularisation = 0.01  # added to the covariances' diagonal
    c.smoothing_sigma = 4.0  # of the Gaussian filter over the map, in pixels
    return c
