"""From a photo's bytes to its verdict, its regions and its pictures."""

import asyncio
import base64
import hashlib
import io
import os
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from diffad_jax.data import images, pictures
from diffad_jax.data.photo import BadImage
from diffad_jax.inference import regions
from diffad_jax.inference.calibration import Calibration
from diffad_jax.serve.batcher import Batcher, Stopping
from diffad_jax.serve.counts import Counts
from diffad_jax.serve.limits import Gate, Limits, Upload
from diffad_jax.serve.model import Model

PICTURES = ("photo", "overlay", "heat_map", "reconstruction")
_SIDE = 512  # pixels: the longer side of pictures
Answer = dict[str, Any]
T = TypeVar("T")


class Found(NamedTuple):
    """The model's result for one photo."""

    score: float
    anomaly_map: np.ndarray  # [s, s] float32
    reconstruction: np.ndarray | None  # [s, s, 3] float32 in [0, 1]


class Inspected(NamedTuple):
    """A photo and the model's result for it."""

    upload: Upload
    sha256: str  # of the bytes
    size: tuple[int, int]  # width, height in pixels
    photo: np.ndarray  # [h, w, 3] uint8, reduced to at most ``_SIDE``
    found: Found
    model: Model  # that found it, and judges it


class Common:
    """What the services of one server share.

    Attributes:
      device: held by the one that computes.
      pool: threads that read and draw photos.
      closed: whether nothing new is taken.
      on_anomalous: called with the answer on each anomalous photo.
    """

    def __init__(self, limits: Limits):
        self.limits, self.gate, self.counts = limits, Gate(limits), Counts()
        self.counts.watch_waiting(lambda: self.gate.photos)
        self.device = threading.Lock()
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1, "photos")
        self.closed = False
        self.on_anomalous: Callable[[Answer], None] = lambda answer: None


class Service:
    """The model of one category, which a recalibration replaces."""

    def __init__(self, model: Model, common: Common):
        self.model, self.common = model, common
        self._batcher = Batcher(self._predict, model.batch_size, common.device)
        self.pictures = PICTURES if model.reconstructs else PICTURES[:-1]

    def warm_up(self) -> None:
        """Compiles the model for all sizes of batches."""
        self._batcher.warm_up(self.model.image_size)

    def close(self) -> None:
        """Finishes running work."""
        self._batcher.close()

    async def inspect(self, upload: Upload) -> Inspected:
        """The model's result for a photo.

        Raises:
          photo.BadImage: it is no photo, damaged, or too large.
          Stopping: nothing new is taken.
        """
        sha256, size, photo, window = await self._in_pool(self._read, upload)
        while True:
            model = self.model
            found = await asyncio.wrap_future(self._batcher.submit(window))
            if model is self.model:  # else a recalibration came between
                return Inspected(upload, sha256, size, photo, found, model)

    async def window(self, upload: Upload) -> np.ndarray:
        """The photo as the model sees it, [h, w, 3] uint8; raises as ``inspect``."""
        return (await self._in_pool(self._read, upload))[-1]

    async def describe(self, inspected: Inspected, wanted: Collection[str] = ()) -> Answer:
        """The answer to a client, with its choice of ``PICTURES`` as PNG in base64."""
        calibration, score = inspected.model.calibration, inspected.found.score
        threshold = calibration.threshold
        anomalous = None if threshold is None else score > threshold
        drawn = {}
        if wanted:
            for kind in wanted:
                drawn[kind] = await self._in_pool(_picture, kind, inspected, calibration)
        width, height = inspected.size
        found = regions.find(
            inspected.found.anomaly_map, calibration.pixel_threshold, inspected.size
        )
        return {
            "category": inspected.model.category,
            "name": inspected.upload.name,
            "sha256": inspected.sha256,
            "width": width,
            "height": height,
            "score": score,
            "is_anomalous": anomalous,
            "threshold": threshold,
            "num_regions": len(found),
            "regions": [region._asdict() for region in found[: regions.MOST_LISTED]],
            **({"pictures": drawn} if wanted else {}),
        }

    async def judge(
        self, upload: Upload, wanted: Collection[str] = (), again: bool = False
    ) -> Answer:
        """Inspects a photo and describes it; an error where it is no photo.

        The verdict is counted and reported, unless the client asks ``again``.
        """
        try:
            inspected = await self.inspect(upload)
        except BadImage as error:
            return {"name": upload.name, "error": f"the photo {error}"}
        answer = await self.describe(inspected, wanted)
        if again:
            return answer
        verdict = {True: "anomalous", False: "good", None: "none"}[answer["is_anomalous"]]
        self.common.counts.verdicts.labels(verdict).inc()
        if answer["is_anomalous"]:
            self.common.on_anomalous({k: v for k, v in answer.items() if k != "pictures"})
        return answer

    async def _in_pool(self, function: Callable[..., T], *arguments: Any) -> T:
        if self.common.closed:
            raise Stopping("the server is stopping")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.common.pool, function, *arguments)

    def _predict(self, images: np.ndarray, size: int) -> list[Found]:
        found = self.model.predict(images, size)
        made = found.reconstruction
        return [
            Found(float(score), found.anomaly_map[i], None if made is None else made[i])
            for i, score in enumerate(found.score)
        ]

    def _read(self, upload: Upload) -> tuple[str, tuple[int, int], np.ndarray, np.ndarray]:
        """Hash, size, reduced photo, and the photo as the model sees it."""
        rules = self.model.rules
        pixels = images.read_bytes(upload.data, rules)
        window = images.resized(pixels, self.model.image_size, rules.resize)
        size = pixels.shape[1::-1]
        small = Image.fromarray(pixels)
        small.thumbnail((_SIDE, _SIDE))
        return hashlib.sha256(upload.data).hexdigest(), size, np.asarray(small), window


def _picture(kind: str, inspected: Inspected, calibration: Calibration) -> str:
    photo, found, scale = inspected.photo, inspected.found, calibration.scale
    size = photo.shape[1::-1]
    if kind == "photo":
        drawn = photo
    elif kind == "reconstruction":
        drawn = pictures.stretched(pictures.to_bytes(found.reconstruction), size)
    elif kind == "heat_map":
        drawn = pictures.heat_map(pictures.stretched(found.anomaly_map, size), scale)
    else:
        drawn = pictures.overlay(photo, found.anomaly_map, scale)
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()
