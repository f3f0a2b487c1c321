"""The functions for Python users: ``diffad_jax.load`` and ``diffad_jax.fit``."""

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from diffad_jax.commands.train import train_and_evaluate
from diffad_jax.config import recipes, stored
from diffad_jax.data import images, photo, pictures
from diffad_jax.data.photo import resized
from diffad_jax.errors import ConfigError
from diffad_jax.export import artifact, registry
from diffad_jax.inference import detector, regions
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.methods.registry import check_config
from diffad_jax.types import height_width

Region = regions.Region
Photo = str | os.PathLike[str] | np.ndarray | Image.Image
_ONE = (str, os.PathLike, Image.Image)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A detector's result for one photo.

    Attributes:
      score: larger is more anomalous.
      threshold: chosen on held-out normal photos; None where fewer than 6 were held out.
      is_anomalous: whether the score is above the threshold; None without one.
      anomaly_map: [h, w] float32 of the detector's ``image_size``: how anomalous each place is. It
        is stretched over the photo.
      regions: connected places above the pixel threshold, in pixels of the photo, the one with the
        highest peak first; none without a threshold.
      reconstruction: [h, w, 3] float32 in [0, 1]; None where the detector makes none.
    """

    score: float
    threshold: float | None
    is_anomalous: bool | None
    anomaly_map: np.ndarray
    regions: list[Region]
    reconstruction: np.ndarray | None = None

    def __repr__(self) -> str:
        return (
            f"Prediction(score={self.score:.4g}, threshold={self.threshold}, "
            f"is_anomalous={self.is_anomalous}, {len(self.regions)} regions)"
        )


# [b, h, w, 3] uint8 -> scores [b], maps [b, h, w], reconstructions [b, h, w, 3] or None
_Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray | None]]


@dataclasses.dataclass(frozen=True)
class Detector:
    """Finds defects on photos of one category; ``load`` and ``fit`` make it.

    Attributes:
      category: its name.
      image_size: (height, width) in pixels, to which photos are resized.
      threshold: a photo that scores above it is anomalous; None where none was chosen.
      scale: the map's colours and its pixel threshold.
    """

    category: str
    image_size: tuple[int, int]
    threshold: float | None
    scale: pictures.Scale
    _rules: photo.Rules = dataclasses.field(repr=False)
    _batch_size: int = dataclasses.field(repr=False)
    _run: _Run = dataclasses.field(repr=False)

    @overload
    def predict(self, photos: Photo) -> Prediction: ...

    @overload
    def predict(self, photos: Iterable[Photo]) -> list[Prediction]: ...

    def predict(self, photos: Photo | Iterable[Photo]) -> Prediction | list[Prediction]:
        """The prediction of one photo, or of several; ``--mode=predict`` gives the same.

        Args:
          photos: a file, [h, w, 3] or [h, w] uint8 pixels, a PIL image, or several of them.

        Raises:
          images.ImageError: a photo cannot be read; it is named.
        """
        if isinstance(photos, _ONE) or (isinstance(photos, np.ndarray) and photos.ndim < 4):
            return self._predict([photos])[0]
        found, batch = [], []
        for one in photos:
            batch.append(one)
            if len(batch) == self._batch_size:
                found += self._predict(batch)
                batch = []
        return found + (self._predict(batch) if batch else [])

    def draw(self, photo: Photo, prediction: Prediction) -> np.ndarray:
        """The photo under the map's colours, with outlined regions and a legend: [h, w, 3] uint8.

        It is the picture that ``--mode=predict`` writes.
        """
        drawn = pictures.overlay(self._pixels(photo), prediction.anomaly_map, self.scale)
        text = pictures.verdict(prediction.score, prediction.threshold)
        return pictures.legend(drawn, text, self.scale)

    def _predict(self, photos: list[Photo]) -> list[Prediction]:
        seen, sizes = [], []
        for one in photos:
            pixels = self._pixels(one)
            sizes.append(pixels.shape[1::-1])
            seen.append(resized(pixels, self.image_size, self._rules.resize))
        scores, maps, made = self._run(np.stack(seen))
        return [
            Prediction(
                score=float(scores[i]),
                threshold=self.threshold,
                is_anomalous=None if self.threshold is None else bool(scores[i] > self.threshold),
                anomaly_map=maps[i],
                regions=regions.find(maps[i], self.scale.threshold, size),
                reconstruction=None if made is None else made[i],
            )
            for i, size in enumerate(sizes)
        ]

    def _pixels(self, one: Photo) -> np.ndarray:
        """[h, w, 3] uint8."""
        if isinstance(one, str | os.PathLike):
            return images.read_image(one, None, self._rules)
        shape = one.size[::-1] if isinstance(one, Image.Image) else one.shape
        if 0 in shape:
            raise images.ImageError(
                f"a photo of {list(shape)} has no pixels: look whether it was cut out beyond a "
                "border"
            )
        if isinstance(one, Image.Image):
            try:
                return photo.rgb_pixels(one, self._rules)
            except photo.BadImage as error:
                raise images.ImageError(f"the image {error}") from error
        if one.dtype != np.uint8 or one.ndim not in (2, 3) or one.shape[2:] not in ((), (3,)):
            raise images.ImageError(
                f"a photo must be [h, w, 3] or [h, w] uint8, not {one.dtype} {list(one.shape)}"
            )
        return one if one.ndim == 3 else np.repeat(one[..., None], 3, axis=-1)


def load(path: str | os.PathLike[str]) -> Detector:
    """The detector of a work directory, of a category's folder in one, or of an exported folder.

    Raises:
      ConfigError: the folder is none of these, or holds several categories.
      checkpoint.CheckpointError: a stage is missing or unfinished.
      artifact.ArtifactError: the exported folder is damaged, or its runtime is not installed.
      layouts.DataError: no threshold is stored, and the held-out photos are gone.
    """
    folder = Path(path).expanduser()
    exported = registry.exported(folder)
    if len(exported) == 1:
        return _exported(*exported.values())
    if exported:
        names = [*exported]
    elif not (names := stored.categories(folder)):
        folder, names = folder.parent, [folder.name]
        if names[0] not in stored.categories(folder):
            raise ConfigError(
                f"{path} is no work directory in which something was trained, and no exported "
                "folder"
            )
    if len(names) > 1:
        raise ConfigError(
            f"{path} holds detectors of several categories: load one, such as {folder / names[0]}"
        )
    return _trained(folder, names[0])


def fit(
    folder: str | os.PathLike[str],
    method: str,
    *,
    workdir: str | os.PathLike[str],
    **overrides: Any,
) -> Detector:
    """Trains a detector on a folder of good photos, as ``--mode=train`` does, and loads it.

    Called again it goes on from where it was stopped, or loads what is finished.

    Args:
      folder: ``photos/bottles``: good photos, directly or in ``train/good``; ``test/good``,
        ``test/DEFECT`` and ``ground_truth/DEFECT`` are evaluated on where they are.
      method: a value of ``config.method``; its small recipe is used.
      workdir: gets the detector, its report and its metrics.
      **overrides: fields of the config, such as ``image_size=128``; those of a section as
        ``**{"evaluation.false_alarm_rate": 0.01}``.

    Raises:
      ConfigError: there is no such field, or it cannot have this value.
      UserError: something else in the photos, the config or the work directory prevents it.
    """
    place = Path(os.path.abspath(os.path.expanduser(folder)))
    config = recipes.load("folder", method)
    config.categories, config.data.root, config.method = (place.name,), str(place.parent), method
    check_config(config)
    if unknown := set(overrides) - stored.flat(config).keys():
        raise ConfigError(f"there is no config.{min(unknown)}: docs/fields.md lists all fields")
    try:
        config.update_from_flattened_dict(overrides)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a field cannot have this value: {error}") from error
    check_config(config)
    train_and_evaluate(config, Path(workdir).expanduser(), None)
    return load(Path(workdir).expanduser() / place.name)


def _trained(workdir: Path, category: str) -> Detector:
    config = stored.of_workdir(workdir, [category])
    found = detector.Detector.from_workdir(config, workdir, category)
    config = found.config
    calibration = load_or_choose(config, workdir, category, found)
    size = config.evaluation.batch_size

    def run(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        # One photo has a program of its own; all other numbers share one.
        predicted = found.predict_all(seen, size if len(seen) > 1 else 1)
        return predicted.score, predicted.anomaly_map, predicted.reconstruction

    return Detector(
        category=category,
        image_size=height_width(config.image_size),
        threshold=calibration.threshold,
        scale=calibration.scale,
        _rules=images.rules(config.data),
        _batch_size=size,
        _run=run,
    )


def _exported(folder: Path) -> Detector:
    card = artifact.read_card(folder)
    detect, rules = registry.load(folder, card), card["preprocessing"]
    threshold, outlined = (
        card[key]["value"] if card[key] else None for key in ("threshold", "pixel_threshold")
    )

    def run(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray, None]:
        predicted = detect(seen, card["seed"])
        return np.asarray(predicted["score"]), np.asarray(predicted["anomaly_map"]), None

    return Detector(
        category=card["category"],
        image_size=tuple(rules["size"]),
        threshold=threshold,
        scale=pictures.Scale(**card["colours"], threshold=outlined),
        _rules=photo.Rules(rules["resize"], rules["bit_depth"]),
        _batch_size=1,
        _run=run,
    )
