"""What a stage's weights depend on, so that nothing unfitting is ever loaded."""

import hashlib
import os
from collections.abc import Iterable
from typing import Any

import jax
import ml_collections
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from diffad_jax.methods.contract import Stage
from diffad_jax.methods.train_state import Params, Weights

# What a stage's result depends on, besides its sections; the stages before are covered by a digest
# of their weights.
_DATA = ("resize", "validation_share")
_TRAINING = ("compute_dtype",)
_DATA_OF_STEPS, _TRAINING_OF_STEPS = ("textures", "recorded"), ("gradient_clip",)
_LENGTHS = ("steps", "epochs")  # of a section: raising them trains on
_LEFT_OUT = ("autoencoder.perceptual_file", "backbone.weights")  # a file's place does not matter
_LEFT_OUT_OF_STEPS = ("reconstruction.test_steps",)  # nothing trains on what is sampled at test
# Other people's networks that a stage learns with, by their names among the earlier weights.
_PRETRAINED = {"perceptual": "weights of the perceptual network", "backbone": "backbone's weights"}
PHOTOS, STAGES_BEFORE = "normal photos", "weights of the stages before"
# Trained weights serve without what only their training needed.
ONLY_FOR_TRAINING = (*_PRETRAINED.values(), PHOTOS)


def fingerprint(
    stage: Stage,
    config: ml_collections.FrozenConfigDict,
    earlier_weights: Weights,
    photos: str = "",
) -> dict:
    """Everything that ``stage``'s weights depend on, as JSON: {field: value}.

    Args:
      stage: of a method, see ``contract``.
      config: the whole config.
      earlier_weights: what ``stage.train_step`` or ``stage.fit`` gets.
      photos: of ``describe_photos``; not needed to load finished weights.
    """
    fields: dict[str, Any] = {"seed": config.seed, "image_size": config.image_size}
    for name in stage.sections:
        fields |= {f"{name}.{k}": v for k, v in config[name].items() if k not in _LENGTHS}
    by_steps = stage.fit is None
    data, training = _DATA + by_steps * _DATA_OF_STEPS, _TRAINING + by_steps * _TRAINING_OF_STEPS
    fields |= {f"data.{key}": config.data[key] for key in data}
    fields |= {f"training.{key}": config.training[key] for key in training}
    for left_out in _LEFT_OUT + by_steps * _LEFT_OUT_OF_STEPS:
        fields.pop(left_out, None)
    fields = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    before = dict(earlier_weights)
    for name, called in _PRETRAINED.items():
        if pretrained := before.pop(name, None):
            fields[called] = weights_hash(pretrained)
    return fields | {PHOTOS: photos, STAGES_BEFORE: weights_hash(before)}


def weights_hash(weights: Params) -> str:
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
    """How many photos and which, by their names and sizes in bytes.

    Args:
      files: local, or any paths that etils.epath reads.
    """
    seen = sorted(f"{os.path.basename(f)} {epath.Path(f).stat().length}" for f in files)
    sha = hashlib.sha256(os.fsencode("\n".join(seen))).hexdigest()  # names may hold any bytes
    return f"{len(seen)} files, names and sizes {sha[:16]}"
