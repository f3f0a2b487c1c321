"""What a stage's weights depend on, so that nothing unfitting is ever loaded."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from diffad_jax.train_state import Params

# What a stage's result depends on, besides its own ``settings``; the stages before are covered by
# a digest of their weights.
_DATA = ("textures", "resize", "validation_share", "recorded")
_TRAINING = ("compute_dtype", "gradient_clip")
# Raising the steps trains on; steps at test change no weights; a file's place does not matter.
_LEFT_OUT = (
    *(f"{s}.{length}" for s in ("autoencoder", "diffusion", "segmentation")
      for length in ("steps", "epochs")),
    "reconstruction.test_steps",
    "autoencoder.perceptual_file",
)  # fmt: skip
_PERCEPTUAL, PHOTOS = "weights of the perceptual network", "normal photos"
# Trained weights serve without what only their training needed.
ONLY_FOR_TRAINING = (_PERCEPTUAL, PHOTOS)


def fingerprint(
    stage: Any, config: ml_collections.FrozenConfigDict, frozen: dict, photos: str = ""
) -> dict:
    """Everything that ``stage``'s weights depend on, as JSON: {field: value}.

    Args:
      stage: a module of ``stages``.
      config: the whole config.
      frozen: what ``stage.train_step`` gets: weights of the stages before, of the perceptual
        network.
      photos: of ``describe_photos``; not needed to load finished weights.
    """
    fields: dict[str, Any] = {"seed": config.seed, "image_size": config.image_size}
    sections = {"synthesis": config.synthesis, "autoencoder": config.autoencoder}
    if stage.NAME != "autoencoder":
        sections["diffusion"] = config.diffusion
    if stage.NAME == "segmenter":
        sections["segmentation"] = config.segmentation
        sections["reconstruction"] = config.reconstruction
    for name, section in sections.items():
        fields |= {f"{name}.{key}": value for key, value in section.items()}
    fields |= {f"data.{key}": config.data[key] for key in _DATA}
    fields |= {f"training.{key}": config.training[key] for key in _TRAINING}
    for left_out in _LEFT_OUT:
        fields.pop(left_out, None)
    fields = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    before = dict(frozen)
    if perceptual := before.pop("perceptual", None):
        fields[_PERCEPTUAL] = digest(perceptual)
    return fields | {PHOTOS: photos, "weights of the stages before": digest(before)}


def digest(weights: Params) -> str:
    """SHA-256 over names and values of a tree of arrays; all processes must ask for it."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(np.ascontiguousarray(whole(leaf)).tobytes())
    return sha.hexdigest()


def whole(array: jax.Array | np.ndarray) -> np.ndarray:
    """An array on the host, gathered if it is spread over processes."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return multihost_utils.process_allgather(array, tiled=True)
    return jax.device_get(array)


def describe_photos(files: Iterable[str]) -> str:
    """How many photos and which, by their names and sizes in bytes."""
    seen = sorted(f"{Path(f).name} {Path(f).stat().st_size}" for f in files)
    sha = hashlib.sha256("\n".join(seen).encode()).hexdigest()
    return f"{len(seen)} files, names and sizes {sha[:16]}"
