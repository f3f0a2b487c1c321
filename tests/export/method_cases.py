"""A tiny detector of each method, with drawn weights or fitted to drawn photos."""

import functools
import json
from pathlib import Path

import exported_folder
import jax
import ml_collections
import numpy as np
from conftest import TINY

from configs import draem_small, mvtec_small, padim, patchcore, riad_small
from diffad_jax.export import artifact
from diffad_jax.export.graph import Model
from diffad_jax.export.registry import FORMATS
from diffad_jax.methods import backbone
from diffad_jax.methods.diffad import memory
from diffad_jax.methods.registry import get_method
from diffad_jax.types import Size, height_width

FITTED = {
    "image_size": (32, 48),
    "backbone.name": "resnet18",
    "backbone.layers": ("layer2", "layer3"),
}
CHANGES = {
    "diffad": {
        **TINY, "image_size": (16, 24), "autoencoder.exposure": 0.45,
        "segmentation.features": "efficientnet_lite0", "segmentation.multipliers": (1, 2),
        "memory.patches": 20,
    },
    "draem": {
        "image_size": 16, "evaluation.smoothing": 3, "draem.reconstructor_channels": 8,
        "draem.reconstructor_multipliers": (1, 2), "draem.segmenter_channels": 8,
        "draem.segmenter_multipliers": (1, 2), "draem.patch_size": 2,
    },
    "riad": {
        "image_size": 16, "evaluation.smoothing": 3, "riad.channels": 8,
        "riad.multipliers": (1, 2), "riad.square_sizes": (2, 4), "riad.patch_size": 1,
    },
    "padim": {**FITTED, "padim.dimensions": 20},
    "patchcore": {**FITTED, "patchcore.bank_share": 0.2},
}  # fmt: skip
CONFIGS = {"diffad": mvtec_small, "draem": draem_small, "riad": riad_small, "padim": padim,
           "patchcore": patchcore}  # fmt: skip


def config(method: str, **changes) -> ml_collections.ConfigDict:
    config = CONFIGS[method].get_config("tiles")
    config.update_from_flattened_dict(CHANGES[method] | changes)
    return config


def photos(size: Size, count: int = 5, seed: int = 0) -> np.ndarray:
    """[count, h, w, 3] uint8: slopes with noise, the last two with a bright square."""
    rng, (height, width) = np.random.default_rng(seed), height_width(size)
    slope = np.add.outer(np.arange(height), np.arange(width))[None, ..., None] * (120 / height)
    noise = rng.integers(-9, 10, (count, height, width, 3))
    pixels = np.clip(slope + noise, 0, 255).astype(np.uint8)
    pixels[-2:, height // 4 : height // 2, width // 3 : width // 2] = 255
    return pixels


@functools.cache
def model(method: str, **changes) -> Model:
    """A detector; the weights are the same in each process."""
    frozen = ml_collections.FrozenConfigDict(config(method, **changes))
    weights, rng = {}, np.random.default_rng(1)
    for stage in get_method(frozen).stages(frozen):
        weights[stage.name] = stage.weights_shapes(frozen, weights) or _fitted(stage, frozen)
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        name = "/".join(key.key for key in path)
        named[name] = leaf if isinstance(leaf, np.ndarray) else _drawn(name, leaf.shape, rng)
    return Model(frozen, Path(), "tiles", named)


def _drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Kernels that keep the size of what they see, small biases, positive variances and scales."""
    last = name.rpartition("/")[2]
    value = rng.uniform(0.5, 1.5, shape) / np.sqrt(max(np.prod(shape[:-1]), 4.0))
    if last not in ("var", "scale", "level", "width", "gain", "deviation"):
        value *= rng.choice([-1, 1], shape) * (1.0 if last == "kernel" else 0.1)
    return np.asarray(value, np.float32)


def _fitted(stage, frozen) -> dict:
    if stage.name == memory.NAME:
        bank = np.random.default_rng(2).uniform(0, 2, (frozen.memory.patches, 24))  # of stage2
        return {"bank": bank.astype(np.float16), "scale": np.array(3.0, np.float32)}
    size = frozen.image_size
    shape = (1, *height_width(size), 3)
    params = jax.jit(backbone.network(frozen).init)(jax.random.key(0), np.zeros(shape, np.float32))
    normal = iter([photos(size, 8, seed=1)[:6]])
    return jax.tree.map(np.asarray, stage.fit(frozen, normal, {"backbone": params["params"]}))


def export(model: Model, name: str, folder: Path) -> None:
    """As ``exporter.export``, without a work directory."""
    FORMATS[name].write(model, folder)
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    inputs = {"image": ""} | ({"seed": ""} if FORMATS[name].takes_seed else {})
    size = list(height_width(model.config.image_size))
    changes = {"format": name, "files": files, "inputs": inputs, "seed": model.seed}
    rules = exported_folder.CARD["preprocessing"] | {"size": size, "resize": "bilinear"}
    card = exported_folder.CARD | changes | {"preprocessing": rules}
    (folder / "model.json").write_text(json.dumps(card))
    artifact.write_checksums(folder)
