"""What a stage's weights depend on, so that nothing unfitting is ever loaded."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from diffad_jax.config.common import ALWAYS
from diffad_jax.config.fields import WEIGHTS, value_of
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.train_state import Params, Weights
from diffad_jax.runtime import storage

# Other people's networks that a stage learns with, by their names among the earlier weights.
_PRETRAINED = {"perceptual": "weights of the perceptual network", "backbone": "backbone's weights"}
PHOTOS, STAGES_BEFORE = "normal photos", "weights of the stages before"
BEGUN_FROM = "weights it began from"  # only of a stage that began from some
# Trained weights serve without what only their training needed.
ONLY_FOR_TRAINING = (*_PRETRAINED.values(), PHOTOS, BEGUN_FROM)


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
    fields = config_fields(stage, config)
    before = dict(earlier_weights)
    for name, called in _PRETRAINED.items():
        if pretrained := before.pop(name, None):
            fields[called] = weights_hash(pretrained)
    return fields | {PHOTOS: photos, STAGES_BEFORE: weights_hash(before)}


def config_fields(stage: Stage, config: ml_collections.FrozenConfigDict) -> dict[str, Any]:
    """The config's part of it: the fields that ``stage``'s weights depend on, as JSON."""
    found: dict[str, Any] = {}
    for section in (*ALWAYS, *stage.sections):
        for name, field in section.dotted():
            if field.use == WEIGHTS:
                value = value_of(config, name)
                value = Path(value).name if field.place else value
                found[name] = list(value) if isinstance(value, tuple) else value
    return found


def pretrained_changed(found: dict, wanted: dict) -> str:
    """What is said of a pretrained network that differs between fingerprints; empty if none."""
    names = (n for n in _PRETRAINED.values() if found.get(n) and wanted.get(n))
    return next((n for n in names if found[n] != wanted[n]), "")


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
    seen = sorted(f"{os.path.basename(f)} {n}" for f, n in storage.with_sizes(files))
    sha = hashlib.sha256(os.fsencode("\n".join(seen))).hexdigest()  # names may hold any bytes
    return f"{len(seen)} files, names and sizes {sha[:16]}"
