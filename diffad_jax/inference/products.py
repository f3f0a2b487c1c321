"""Several products by one set of networks: their detectors, and which of them a photo shows."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np

from diffad_jax.data import bit_depth, images, split
from diffad_jax.errors import ConfigError
from diffad_jax.inference.detector import Detector, load_stages
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import files
from diffad_jax.runtime.batches import in_batches
from diffad_jax.runtime.compilation import jitted
from diffad_jax.training.held_out import load_split

_FILE = "likeness.json"
_MOST_PHOTOS = 64  # of a product, by which it is known how far its photos may be
_REACH = 1.5  # times as far as the farthest of them, a photo is of none


def load(config: ml_collections.ConfigDict, workdir: Path) -> dict[str, Detector]:
    """The detectors of all ``config.categories``, which share their networks in memory, too.

    Raises:
      checkpoint.CheckpointError: as ``Detector.from_workdir``.
    """
    frozen_config, first = ml_collections.FrozenConfigDict(config), workdir / config.categories[0]
    method = get_method(config)
    common = method.shared_stages(frozen_config)
    weights = jax.device_put(load_stages(common, frozen_config, first))
    own, found = method.own_stages(frozen_config), {}
    for category in config.categories:
        seen = bit_depth.stored(config, workdir / category)
        fitted = load_stages(
            own, ml_collections.FrozenConfigDict(seen), workdir / category, weights
        )
        found[category] = Detector(seen, fitted).as_inspected(workdir / category)
    return found


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
        method = get_method(config)
        if (tell := method.tell(frozen_config)) is None:
            raise ConfigError(
                "nothing tells the categories apart (config.memory.patches would): name one, "
                f"--config.categories={config.categories[0]}"
            )
        self.detectors = load(config, workdir)
        shared = [stage.name for stage in method.shared_stages(frozen_config)]
        every = [detector.weights for detector in self.detectors.values()]
        self._common = {name: every[0][name] for name in shared}
        self._own = [{n: w for n, w in one.items() if n not in shared} for one in every]
        self._tell, self._batch_size = jitted(tell, frozen_config), config.evaluation.batch_size
        self._limits = np.array([
            self._limit(i, workdir / category, category)
            for i, category in enumerate(self.detectors)
        ])  # fmt: skip

    def distances(self, pixels: np.ndarray) -> np.ndarray:
        """How far photos are from each product's normal ones: [b, h, w, 3] uint8 -> [b, k].

        1 is as far as a photo of the product may be.
        """
        return self._raw(pixels) / self._limits

    def nearest(self, distances: Sequence[float]) -> str:
        """The product that a photo shows, by its ``distances``; "" where it is like none."""
        least = int(np.argmin(distances))
        return list(self.detectors)[least] if distances[least] <= 1.0 else ""

    def _raw(self, pixels: np.ndarray) -> np.ndarray:
        def run(batch: np.ndarray) -> jax.Array:
            return self._tell(self._common, self._own, batch)

        return np.asarray(in_batches(run, [pixels], self._batch_size))

    def _limit(self, index: int, directory: Path, category: str) -> float:
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
            kept = depends_on | {"farthest": float(self._raw(pixels)[:, index].max())}
            files.write_whole(directory / _FILE, json.dumps(kept, indent=1) + "\n")
        return _REACH * kept["farthest"]
