"""PaDiM (ICPR 2020 workshops) on MVTec AD: fitted in one pass, without gradients.

Command:   python -m diffad_jax.main --config=configs/padim.py:bottle --workdir=runs/padim \\
             --config.data.root=data/mvtec --config.backbone.weights=FILE
           (for magnetic tiles :magnetic_tile)
Hardware:  2 CPU cores
Result:    Inception-v3, mask rule half, seed 0: bottle, image AUROC 0.9992, AP 0.9998, pixel AUROC
           0.9811, AP 0.6909, PRO 0.9299; magnetic tiles 0.8696, 0.9364, 0.7274, 0.1732, 0.7133
Cost:      bottle, 209 photos: fitted in 178 s (peak 1.3 GB), 0.70 s a photo at test, on a machine
           with much other work: fit and evaluation took 61 s of the processor. Magnetic tiles,
           761 photos: 274 s (peak 1.3 GB), 0.27 s a photo; 174 s of the processor
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
    config = mvtec.shared(method, category)
    config.data = mvtec.photos()
    config.training = mvtec.computing()
    del (
        config.evaluation.smoothing,
        config.evaluation.smoothing_power,
    )  # of probabilities; distances have a smoothing_sigma
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
    c.dimensions = 100  # of the reduced features; memory grows as the largest map × its square
    c.regularisation = 0.01  # added to the covariances' diagonal
    c.smoothing_sigma = 4.0  # of the Gaussian filter over the map, in pixels
    return c
