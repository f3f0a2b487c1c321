"""Photo files to scores: reads ahead of the detector, makes batches, puts windows together.

Prediction and the choice of a threshold both use it, so a threshold fits the scores it judges.
"""

import functools
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from jaxtyping import Float32, UInt8

from diffad_jax.data import images, strips
from diffad_jax.data.photo import Rules
from diffad_jax.inference.detector import Detector
from diffad_jax.inference.large import LargePhoto
from diffad_jax.inference.tiling import Tiles
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import storage
from diffad_jax.runtime.batches import map_ahead
from diffad_jax.types import height_width

_DECODING = 7  # bytes a pixel: what Pillow holds, and the photo


class Scored(NamedTuple):
    """The detector's result for a photo of h × w pixels.

    The map has a × b pixels: as the photo from windows, else ``config.image_size``. For a photo
    that was read in strips all arrays are reduced, see ``LargePhoto``.
    """

    path: str
    size: tuple[int, int]  # w, h
    photo: UInt8[np.ndarray, "h w 3"]
    num_windows: int  # 1 where the photo was seen whole
    score: float
    anomaly_map: Float32[np.ndarray, "a b"]
    # In [0, 1]; None where the method makes none.
    reconstruction: Float32[np.ndarray, "a b 3"] | None
    reduction: int = 1  # k, of a photo in strips: a pixel of the arrays stands for k × k


class Unreadable(NamedTuple):
    """A file that could not be scored."""

    path: str
    reason: str


class _Opened(NamedTuple):
    path: str
    photo: np.ndarray | None  # None of one that is read in strips
    tiles: Tiles | LargePhoto


_Window = tuple[_Opened, int, np.ndarray]  # a photo, and the number and pixels of a window


def score_photos(
    detector: Detector, paths: Iterable[str], tile: bool
) -> Iterator[list[Scored | Unreadable]]:
    """Scores photos in batches of ``config.evaluation.batch_size`` windows.

    Seen whole, a photo is resized to one window. With ``tile`` it keeps its resolution and is cut
    into windows; then the blended map gives its score, with the same smoothing. A photo that is too
    large to be held (``config.data.photo_mib``) is then read in strips.

    Args:
      detector: of one category.
      paths: taken one by one, as room is made.
      tile: cut instead of resizing.

    Yields:
      After each batch the photos that it finished. Others are decoded ahead: at most a batch, and
      as many as fit ``budget``. A batch fits it, too, or is cut short.

    Raises:
      checkpoint.CheckpointError: a score is not finite, so the weights are broken.
    """
    config, unreadable = detector.config, []
    size, cores = config.evaluation.batch_size, os.cpu_count() or 1
    rules = images.rules(config.data)

    def read(path: str) -> _Opened | Unreadable:
        name = str(path)  # without the content that was read ahead
        try:
            if tile and not rules.fits(photo_size := strips.size(path, rules)):
                return _Opened(name, None, _in_strips(path, photo_size, config, rules))
            photo = images.read_image(path, None, rules)
            window = height_width(config.image_size)
            seen = photo if tile else images.resized(photo, window, config.data.resize)
            return _Opened(name, photo, Tiles(seen, window))
        except images.ImageError as error:
            return Unreadable(name, str(error))
        except MemoryError:
            return Unreadable(name, f"{path} does not fit into memory: scale it down or cut it up")

    def windows(found: Iterable[_Opened | Unreadable]) -> Iterator[_Window]:
        for opened in found:
            if isinstance(opened, Unreadable):
                unreadable.append(opened)
                continue
            try:
                for i in range(len(opened.tiles)):
                    yield opened, i, opened.tiles.window(i)
            except images.ImageError as error:  # in a strip
                unreadable.append(Unreadable(opened.path, str(error)))

    places = windows(
        map_ahead(
            read,
            storage.ahead(paths, images.most_file_bytes(rules), budget(config)),
            threads=cores,
            ahead=cores if tile else size,
            cost=lambda path: _DECODING * _num_pixels(path, rules),
            budget=budget(config),
        )
    )
    while batch := _next_batch(places, size, budget(config)):
        finished = _score_batch(detector, batch, tile)
        yield finished + unreadable
        unreadable.clear()
    yield unreadable


def budget(config: ml_collections.FrozenConfigDict) -> int:
    """Bytes for photos that wait, for those of a batch, and for those that are drawn: each."""
    return config.data.photo_mib * 2**20


def _in_strips(
    path: str,
    size: tuple[int, int],
    config: ml_collections.FrozenConfigDict,
    rules: Rules,
) -> LargePhoto:
    most_pixels, to_scores = budget(config) // 3, functools.partial(score_map, config=config)
    window = height_width(config.image_size)
    return LargePhoto(strips.read(path, rules), size, window, most_pixels, to_scores)


def _next_batch(places: Iterator[_Window], size: int, most: int) -> list[_Window]:
    """Up to ``size`` windows; fewer where their photos would hold more than ``most`` bytes."""
    batch: list[_Window] = []
    held = 0
    for opened, i, pixels in places:
        another = opened.photo is not None and (not batch or opened is not batch[-1][0])
        held += opened.photo.nbytes if another else 0
        batch.append((opened, i, pixels))
        if len(batch) == size or held >= most:
            break
    return batch


def _num_pixels(path: str, rules: images.Rules) -> int:
    try:
        width, height = images.photo_size(path, rules)
    except images.ImageError:
        return 0  # reading it says why
    return width * height


def score_map(
    anomaly_map: Float32[np.ndarray, "h w"], config: ml_collections.FrozenConfigDict
) -> Float32[np.ndarray, "h w"]:
    """The map whose largest value is the score, see ``contract.Method``."""
    height, width = anomaly_map.shape
    # Zeros beyond the border count anyway, and whole windows give few shapes to compile.
    missing = [
        (0, -n % side)
        for n, side in zip(anomaly_map.shape, height_width(config.image_size), strict=True)
    ]
    padded = np.pad(anomaly_map, missing)
    return np.asarray(_score_map(padded[None], config=config))[0, :height, :width]


@functools.partial(jax.jit, static_argnames="config")
def _score_map(anomaly_map: jax.Array, *, config: ml_collections.FrozenConfigDict) -> jax.Array:
    return get_method(config).score_map(anomaly_map, config=config)


def _score_batch(detector: Detector, batch: list[_Window], tile: bool) -> list[Scored | Unreadable]:
    """The photos whose last window is in the batch."""
    config, finished = detector.config, []
    pixels = np.stack([window for _, _, window in batch])
    predicted = detector.predict_all(pixels, config.evaluation.batch_size)
    found, reconstructs = predicted.anomaly_map[..., None], predicted.reconstruction is not None
    if reconstructs:
        found = np.concatenate([found, predicted.reconstruction], axis=-1)
    for k, (opened, i, _) in enumerate(batch):
        opened.tiles.add(i, found[k])
        if i + 1 < len(opened.tiles):
            continue
        if opened.photo is None:
            finished.append(_scored_in_strips(opened.path, opened.tiles))
            continue
        blend = opened.tiles.blend
        anomaly_map, reconstruction = blend[..., 0], blend[..., 1:] if reconstructs else None
        score = score_map(anomaly_map, config).max() if tile else predicted.score[k]
        finished.append(
            Scored(
                path=opened.path,
                size=opened.photo.shape[1::-1],
                photo=opened.photo,
                num_windows=len(opened.tiles),
                score=float(score),
                anomaly_map=anomaly_map,
                reconstruction=reconstruction,
            )
        )
    return finished


def _scored_in_strips(path: str, large: LargePhoto) -> Scored:
    return Scored(
        path=path,
        size=large.size,
        photo=large.photo,
        num_windows=len(large),
        score=large.score,
        anomaly_map=large.anomaly_map,
        reconstruction=large.reconstruction,
        reduction=large.reduction,
    )
