"""Several products in one process: their detectors, and which of them a photo shows."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Float

from diffad_jax.data import bit_depth, images, split
from diffad_jax.errors import ConfigError, is_refused
from diffad_jax.inference.detector import Detector, load_stages
from diffad_jax.methods.registry import get_method
from diffad_jax.methods.train_state import Weights
from diffad_jax.runtime import files
from diffad_jax.runtime.batches import in_batches
from diffad_jax.runtime.compilation import jitted
from diffad_jax.training.held_out import load_split
from diffad_jax.types import Photos

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


class Distances:
    """How far photos are from products' normal ones, in each product's own unit."""

    def __init__(self, config: ml_collections.ConfigDict):
        """Raises ConfigError where the method cannot tell its categories apart."""
        frozen_config = ml_collections.FrozenConfigDict(config)
        if (telling := get_method(config).tell(frozen_config)) is None:
            raise ConfigError(
                "nothing tells the categories apart (config.memory.patches would): name one, "
                f"--config.categories={config.categories[0]}"
            )
        self._network, self.batch_size = telling.network, config.evaluation.batch_size
        self._features = jitted(telling.features, frozen_config)
        self._distance = jitted(telling.distance, frozen_config)

    def of(
        self, weights: Sequence[Weights], pixels: Photos, batch_size: int
    ) -> Float[np.ndarray, "b k"]:
        """Those of photos from the products of k detectors' weights.

        A network that several detectors see by sees a photo once.
        """

        def run(batch: np.ndarray) -> jax.Array:
            seen: dict[tuple[int, ...], jax.Array] = {}
            found = []
            for own in weights:
                network = self._network(own)
                mark = tuple(map(id, jax.tree.leaves(network)))
                if mark not in seen:
                    seen[mark] = self._features(network, batch)
                found.append(self._distance(own, seen[mark]))
            return jnp.stack(found, axis=1)

        return np.asarray(in_batches(run, [pixels], batch_size))

    def farthest(self, detector: Detector, directory: Path) -> float:
        """That of the farthest held-out photo from its own product; ``likeness.json`` keeps it.

        Args:
          detector: of the product.
          directory: of the category.

        Raises:
          layouts.DataError: held-out photos are gone.
          images.ImageError: one of them is unreadable.
        """
        config = detector.config
        photos = load_split(config, directory, directory.name)
        chosen = dict(sorted((photos.held_out or photos.train).items())[:_MOST_PHOTOS])
        depends_on = {"weights": detector.weights_hash, "photos": chosen}
        kept = files.read_json(directory / _FILE)
        if not all(kept.get(key) == value for key, value in depends_on.items()):
            pixels, _, _ = images.read_images(
                split.paths(config, chosen), config.image_size, images.rules(config.data),
                config.data.on_bad_image,
            )  # fmt: skip
            farthest = self.of([detector.weights], pixels, self.batch_size).max()
            kept = depends_on | {"farthest": float(farthest)}
            try:
                files.write_whole(directory / _FILE, json.dumps(kept, indent=1) + "\n")
            except OSError as error:
                if not is_refused(error):
                    raise
        return kept["farthest"]


class Products:
    """Tells which of several products a photo shows."""

    def __init__(
        self, distances: Distances, detectors: Mapping[str, Detector], farthest: Sequence[float]
    ):
        """``farthest`` is how far the farthest photo of each product is from it."""
        self.detectors, self._distances = detectors, distances
        self._limits = _REACH * np.array(farthest)

    def distances(self, pixels: Photos, batch_size: int | None = None) -> Float[np.ndarray, "b k"]:
        """How far photos are from each of k products' normal ones.

        1 is as far as a photo of the product may be. ``batch_size`` is the config's where it is
        None.
        """
        weights = [detector.weights for detector in self.detectors.values()]
        size = batch_size or self._distances.batch_size
        return self._distances.of(weights, pixels, size) / self._limits

    def nearest(self, distances: Sequence[float]) -> str:
        """The product that a photo shows, by its ``distances``; "" where it is like none."""
        least = int(np.argmin(distances))
        return list(self.detectors)[least] if distances[least] <= 1.0 else ""


def of_workdir(config: ml_collections.ConfigDict, workdir: Path) -> Products:
    """The products of a work directory, whose detectors are loaded.

    Raises:
      ConfigError: the method cannot tell its categories apart.
      layouts.DataError, images.ImageError: as ``Distances.farthest``.
    """
    distances = Distances(config)
    detectors = load(config, workdir)
    farthest = [distances.farthest(d, workdir / name) for name, d in detectors.items()]
    return Products(distances, detectors, farthest)
