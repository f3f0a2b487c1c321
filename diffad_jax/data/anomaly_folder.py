"""A category as a TFDS data set, for programs that read TFDS; training reads photos directly.

config = AnomalyFolderConfig(root="data/mvtec", category="bottle")
tfds.load("anomaly_folder", split="test", builder_kwargs={"config": config})
AnomalyFolder(config=config).as_dataset(split="train")  # prepared on first use
"""

import dataclasses
import hashlib
import io
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from diffad_jax.data import bit_depth, images, layouts, masks, photo
from diffad_jax.data.photo import Rules

# Formats that TensorFlow decodes as read_image does (JPEG: up to the decoder's rounding).
_COPIED = {"PNG": {"1", "L", "LA", "RGB", "RGBA", "P"}, "JPEG": {"L", "RGB"}}
_ORIENTATION = 0x0112  # EXIF tag; TensorFlow does not obey it


@dataclasses.dataclass(kw_only=True, eq=False)
class AnomalyFolderConfig(tfds.core.BuilderConfig):
    """One category. Its name, and so the prepared folder, changes when its files change.

    What was prepared from earlier files stays on disk until it is deleted.

    Raises:
      layouts.DataError: the category cannot be read.
    """

    name: str = ""  # made from the category and a fingerprint of its files
    root: str  # holds one folder a category
    category: str
    layout: str = "mvtec"  # a name in layouts.LAYOUTS
    validation_share: float = 0.1  # of the normal photos
    seed: int = 0  # of the choice of the validation photos

    def __post_init__(self) -> None:
        self.root = os.path.expanduser(os.fspath(self.root))
        self.records = layouts.read_category(self.root, self.category, self.layout)
        words = re.sub(r"[^A-Za-z0-9]+", "_", self.category).strip("_")[:40]
        self.name = f"{words or 'category'}-{self._fingerprint()}"

    def _fingerprint(self) -> str:
        """The fingerprint of the settings and of each file's name, size and time of change."""
        digest = hashlib.sha256(repr((self.layout, self.validation_share, self.seed)).encode())
        for record in self.records:
            for file in filter(None, (record.file, record.mask)):
                stat = epath.Path(file).stat()
                entry = (file, record.split, record.defect_type, stat.length, stat.mtime)
                digest.update(repr(entry).encode())
        return digest.hexdigest()[:16]


class AnomalyFolder(tfds.core.GeneratorBasedBuilder):
    """Normal and defect photos of one category, at their own size.

    Splits: ``train`` and ``validation`` hold normal photos, ``test`` both kinds.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    builder_config: AnomalyFolderConfig

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),  # uint8 RGB
            # uint8, 0 normal … 255 anomalous; black for normal photos and where there is no mask.
            "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "has_mask": np.bool_,  # the ground truth is known: a mask file, or a normal photo
            "label": tfds.features.ClassLabel(names=["normal", "anomalous"]),
            "defect_type": tfds.features.Text(),  # "good" for normal photos
            "file": tfds.features.Text(),  # below the root
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Photos of {self.builder_config.category!r} and where they show defects.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        c = self.builder_config
        normal = [r for r in c.records if r.split == "train"]
        train, held_out = layouts.split_validation(normal, c.validation_share, c.seed)
        depth = bit_depth.detect([r.file for r in normal], Rules("bilinear"))
        rules = Rules("bilinear", depth)
        mask_set, _ = masks.survey([r.mask for r in c.records if r.mask is not None], rules)
        parts = {
            "train": train,
            "validation": held_out,
            "test": [r for r in c.records if r.split == "test"],
        }
        # TFDS refuses to prepare a split without examples.
        return {
            name: self._generate_examples(part, mask_set) for name, part in parts.items() if part
        }

    def _generate_examples(
        self, records: list[layouts.Record], mask_set: masks.MaskSet
    ) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """One example a record.

        Raises:
          images.ImageError: a photo or mask is unreadable; nothing is left out in silence.
        """
        for record in records:
            # As bytes, because a name may be no text.
            file = os.fsencode(os.path.relpath(record.file, self.builder_config.root))
            encoded, size = _encode_photo(record.file, mask_set.rules)
            mask = np.zeros((size[1], size[0]), np.uint8)
            if record.mask is not None:
                mask = mask_set.levels(record.mask, size)
            yield (
                file,
                {
                    "image": io.BytesIO(encoded),
                    "mask": mask[..., None],
                    "has_mask": record.mask is not None or not record.is_anomalous,
                    "label": int(record.is_anomalous),
                    "defect_type": os.fsencode(record.defect_type),
                    "file": file,
                },
            )

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """See TFDS; prepares the data set first if it is not prepared."""
        self.download_and_prepare()
        return super().as_dataset(*args, **kwargs)


def _encode_photo(file: str, rules: Rules) -> tuple[bytes, tuple[int, int]]:
    """(bytes that TensorFlow decodes, (width, height)): the file's own where it decodes them.

    Raises:
      images.ImageError: the photo cannot be decoded; found here, where its name is known.
    """
    pixels = images.read_image(file, None, rules)
    size = (pixels.shape[1], pixels.shape[0])

    def is_copied(image: Image.Image, rules: Rules) -> bool:
        plain = photo.deep_levels(image) is None and image.getexif().get(_ORIENTATION, 1) == 1
        return plain and image.mode in _COPIED.get(image.format or "", ())

    if images.decode(file, rules, is_copied):
        with images.open_photo(file, rules) as opened:
            return opened.read(), size
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    return png.getvalue(), size
