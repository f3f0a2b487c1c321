"""Several products in one process: their detectors, and which of them a photo shows."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from diffad_jax.data import bit_depth, images, split
from diffad_jax.errors import ConfigError, is_refused
from diffad_jax.inference.detector import Detector, load_stages
from diffad_jax.methods.registry import get_method
from diffad_jax.methods.train_state import Weights
from diffad_jax.runtime import files
from diffad_jax.runtime.batches import in_batches
from diffad_jax.runtime.compilation import jitted
from diffad_jax.training.held_out import load_split

_FILE = "likeness.json"
_MOST_PHOTOS = 64  # of a product, by which it is known how far its photos may be
_REACH = 1.5  # times as far as the farthest of them, a photo is of none


def load(config: ml_collections.ConfigDict, workdir: Path) -> dict[str, Detector]:
    """The detectors of all ``config.categories``; what they have in common is in memory once.

    That is what lies in the work directory once, and what is equal: such as the pretrained network
    of which each category keeps a copy.

    Raises:
      checkpoint.CheckpointError: as ``Detector.from_workdir``.
    """
    frozen_config, first = ml_collections.FrozenConfigDict(config), workdir / config.categories[0]
    method, known = get_method(config), {}
    common = load_stages(method.shared_stages(frozen_config), frozen_config, first)
    common, found = _on_device(common, known), {}
    for category in config.categories:
        seen = bit_depth.stored(config, workdir / category).copy_and_resolve_references()
        seen.categories = (category,)
        own = method.own_stages(frozen_config)
        networks = method.seen_by(category, common, frozen_config)
        fitted = load_stages(
            own, ml_collections.FrozenConfigDict(seen), workdir / category, networks
        )
        trained = Detector(seen, _on_device(fitted, known))
        found[category] = trained.as_inspected(workdir / category)
    return found


def _on_device(weights: Weights, known: dict[bytes, jax.Array]) -> Weights:
    """``weights`` as arrays of the device, each that equals a ``known`` one as that one."""

    def put(leaf: jax.Array | np.ndarray) -> jax.Array:
        if (found := content(leaf)) not in known:
            known[found] = jax.device_put(leaf)
        return known[found]

    return jax.tree.map(put, weights)


def content(array: jax.Array | np.ndarray) -> bytes:
    """The same for arrays of the same type, shape and values, and for no others: SHA-256."""
    values = np.ascontiguousarray(array)
    found = hashlib.sha256(f"{values.dtype} {np.shape(array)}".encode())
    found.update(values.reshape(-1).view(np.uint8))
    return found.digest()


class Products:
    """Tells which of several products a photo shows.

    Attributes:
      detectors: by category.
    """

    def __init__(self, config: ml_collections.ConfigDict, workdir: Path):
        """Looks at held-out photos of products whose ``likeness.json`` is not there yet.

        Raises:
          ConfigError: the method cannot tell its categories apart.
          layouts.DataError: held-out photos are gone.
          images.ImageError: one of them is unreadable.
        """
        frozen_config = ml_collections.FrozenConfigDict(config)
        if (telling := get_method(config).tell(frozen_config)) is None:
            raise ConfigError(
                "nothing tells the categories apart (config.memory.patches would): name one, "
                f"--config.categories={config.categories[0]}"
            )
        self.detectors = load(config, workdir)
        self._network, self._batch_size = telling.network, config.evaluation.batch_size
        self._features = jitted(telling.features, frozen_config)
        self._distance = jitted(telling.distance, frozen_config)
        self._limits = np.array([self._limit(workdir / name, name) for name in self.detectors])

    def distances(self, pixels: np.ndarray, batch_size: int | None = None) -> np.ndarray:
        """How far photos are from each product's normal ones: [b, h, w, 3] uint8 -> [b, k].

        1 is as far as a photo of the product may be. ``batch_size`` is the config's where it is
        None.
        """
        size = batch_size or self._batch_size
        return self._raw([*self.detectors.values()], pixels, size) / self._limits

    def nearest(self, distances: Sequence[float]) -> str:
        """The product that a photo shows, by its ``distances``; "" where it is like none."""
        least = int(np.argmin(distances))
        return list(self.detectors)[least] if distances[least] <= 1.0 else ""

    def _raw(
        self, detectors: Sequence[Detector], pixels: np.ndarray, batch_size: int
    ) -> np.ndarray:
        """[b, k]; a network that several detectors see by sees a photo once."""

        def run(batch: np.ndarray) -> jax.Array:
            seen: dict[tuple[int, ...], jax.Array] = {}
            found = []
            for detector in detectors:
                network = self._network(detector.weights)
                mark = tuple(map(id, jax.tree.leaves(network)))
                if mark not in seen:
                    seen[mark] = self._features(network, batch)
                found.append(self._distance(detector.weights, seen[mark]))
            return jnp.stack(found, axis=1)

        return np.asarray(in_batches(run, [pixels], batch_size))

    def _limit(self, directory: Path, category: str) -> float:
        """``_REACH`` times the distance of the farthest held-out photo from its own product."""
        detector = self.detectors[category]
        config = detector.config
        photos = load_split(config, directory, category)
        chosen = dict(sorted((photos.held_out or photos.train).items())[:_MOST_PHOTOS])
        depends_on = {"weights": detector.weights_hash, "photos": chosen}
        kept = files.read_json(directory / _FILE)
        if not all(kept.get(key) == value for key, value in depends_on.items()):
            pixels, _, _ = images.read_images(
                split.paths(config, chosen), config.image_size, images.rules(config.data),
                config.data.on_bad_image,
            )  # fmt: skip
            farthest = self._raw([detector], pixels, self._batch_size).max()
            kept = depends_on | {"farthest": float(farthest)}
            try:
                files.write_whole(directory / _FILE, json.dumps(kept, indent=1) + "\n")
            except OSError as error:
                if not is_refused(error):
                    raise
        return _REACH * kept["farthest"]
