"""Training examples in a file: for hosts without TensorFlow, or too slow to feed their device.

A recording is a ZIP archive: ``meta.json`` (config, photos by category, counts) and an entry for
each part of an example. Pictures are lossless WebP. A photo that several examples share is stored
once. An augmented image is stored as its difference to the photo, modulo 256, which may reach
beyond the mask.
"""

import functools
import hashlib
import io
import itertools
import json
import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import tqdm
from PIL import Image, WebPImagePlugin

from diffad_jax.data import bit_depth
from diffad_jax.data.split import Split
from diffad_jax.errors import UserError
from diffad_jax.runtime import copies, files, storage, zips
from diffad_jax.runtime.batches import map_ahead
from diffad_jax.runtime.regular import MOST_JSON, open_regular, parsed_json
from diffad_jax.types import Batch, height_width

_FORMAT = "diffad_jax recording 4"
_MOST_AHEAD = 16  # batches in memory
_MOST_NAME, _MOST_HEADER = 2**10, 2**12  # bytes
_MOST_SIDE = 2**14 - 1  # pixels, of WebP
_MOST_EXAMPLES, _MOST_DIRECTORY = 100_000, 2**25  # of which those take up to 29 MB


class RecordingError(UserError):
    """A recording is missing, damaged, or does not fit; the message names the file."""


def write(
    config: ml_collections.ConfigDict,
    output: str | Path,
    photos: Mapping[str, Split],
    streams: dict[str, tuple[int, Iterator[Batch]]],
) -> None:
    """Writes ``output`` whole or not at all.

    Args:
      config: stored inside, so that training can check it.
      output: the file.
      photos: the photos that examples are made of, by category. They are stored inside, so that
        training holds out the same ones.
      streams: split -> (number of examples, batches of one example).

    Raises:
      RecordingError: more than 100,000 examples.
    """
    if sum(count for count, _ in streams.values()) > _MOST_EXAMPLES:
        raise RecordingError(
            f"{output} would hold more than {_MOST_EXAMPLES} examples: record fewer, or train from "
            "the photos"
        )
    meta = {
        "format": _FORMAT,
        "photos": {category: own._asdict() for category, own in photos.items()},
        "counts": {split: count for split, (count, _) in streams.items()},
        "config": json.loads(config.to_json_best_effort()),
    }
    seen: set[str] = set()
    with (
        files.whole(Path(output)) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        for split, (count, stream) in streams.items():
            for i in tqdm.trange(count, desc=f"recording {split}", disable=None):
                _write_example(archive, f"{split}/{i:07d}", next(stream), seen)
        archive.writestr("meta.json", json.dumps(meta, indent=1))


def batches(
    config: ml_collections.ConfigDict,
    categories: Sequence[str],
    *,
    split: str,
    batch_size: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    stage: str = "",
) -> Iterator[Batch]:
    """Endless batches from ``config.data.recorded``, shuffled anew each epoch.

    An example is a pure function of (seed, stage, index), so any ``start_step`` is reached at once.
    Validation examples are not shuffled. Each of several processes gets its own contiguous share of
    a batch, as from ``pipeline.batches``.

    Raises:
      RecordingError: missing or damaged file, or one of another category, seed, image size,
        resizing, held-out share or synthesis.
    """
    recording = Recording(config.data.recorded, config.data.cache_mib)
    recording.check(config, categories, split)
    share = batch_size // process_count

    def example(i: int) -> dict[str, np.ndarray]:
        if split == "validation":
            return recording.example(split, i % recording.count(split))
        return _drawn(recording, split, (config.seed, zlib.crc32(stage.encode())), i)

    def batch(step: int) -> Batch:
        first = step * batch_size + process_index * share
        examples = [example(i) for i in range(first, first + share)]
        return {k: np.stack([e[k] for e in examples]) for k in examples[0]}

    if split == "validation":  # of which one batch is wanted
        return map(batch, itertools.count(start_step))
    threads = min(os.cpu_count() or 1, _MOST_AHEAD)
    return map_ahead(batch, itertools.count(start_step), threads=threads, ahead=threads)


class Recording:
    """Random access to the examples of a recording.

    Examples share photos, so these stay decoded in memory, up to ``cache_mib``. A recording in
    object storage is copied to this machine first, see ``copies.local_copy``.
    """

    def __init__(self, path: str | Path, cache_mib: int = 0):
        self.path = str(path)
        try:
            here = _on_this_machine(self.path)
            self._archive = zips.open_zip(lambda: open_regular(here), _MOST_DIRECTORY)
            self.meta = _checked(parsed_json(self._read("meta.json", MOST_JSON)))
            names = set(self._archive.namelist())
            for split, count in self.meta["counts"].items():
                if (
                    count
                    and not {f"{split}/{count - 1:07d}.image", f"{split}/0000000.image"} <= names
                ):
                    raise ValueError(f"it has less than {count} {split} examples")
        except FileNotFoundError:
            raise RecordingError(
                f"config.data.recorded: there is no {self.path}; write it with --mode=record"
            ) from None
        except RecordingError as error:
            raise RecordingError(f"{self.path} {error}") from None
        except Exception as error:  # a damaged archive makes zipfile raise almost anything
            raise RecordingError(
                f"{self.path} is no whole recording ({error}): write it again with --mode=record"
            ) from error
        self.bit_depth: int = self.meta["config"]["data"]["bit_depth"]
        self._shape = height_width(self.meta["config"]["image_size"])
        self._cache: dict[str, np.ndarray] = {}
        self._room = cache_mib * 2**20

    def check(
        self, config: ml_collections.ConfigDict, categories: Sequence[str], split: str
    ) -> None:
        """Refuses a recording that was made for another config.

        With another seed or share, held-out photos of this run would be among its examples.
        """
        made = _made_from(self.meta["config"], self.meta["photos"])
        config = bit_depth.stated(config, lambda: self.bit_depth)
        wanted = _made_from(json.loads(config.to_json_best_effort()), categories)
        for name in made | wanted:
            there, here = made.get(name), wanted.get(name)
            if there != here:
                raise RecordingError(
                    f"{self.path} was recorded with {name} = {there}, the config says {here}: "
                    "record it again, or change the config"
                )
        if not self.meta["counts"].get(split):
            raise RecordingError(f"{self.path} holds no {split} examples: record more")

    def photos(self, category: str) -> Split:
        """Those of a category that its examples are made of, and those that are held out.

        Raises:
          RecordingError: it holds none of this category.
        """
        if category not in self.meta["photos"]:
            there = ", ".join(self.meta["photos"])
            raise RecordingError(
                f"{self.path} was recorded with categories = {there}, the config says {category}: "
                "record it again, or change the config"
            )
        return Split.parsed(self.meta["photos"][category])

    def count(self, split: str) -> int:
        return self.meta["counts"][split]

    def example(self, split: str, i: int) -> dict[str, np.ndarray]:
        """Example ``i`` of ``split``, as it was recorded: see ``types.Batch``, without b."""
        name, pixels = f"{split}/{i:07d}", math.prod(self._shape)
        try:
            image = self._picture(self._read(f"{name}.image", _MOST_NAME).decode())
            packed = self._read(f"{name}.mask", pixels)  # 8 times what it packs, at the least
            bits = _inflated(packed, -(-pixels // 8))
            augmented = image + self._picture(f"{name}.added")
        except Exception as error:  # as above
            raise RecordingError(f"{self.path}: example {name} is damaged ({error})") from error
        mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=pixels)
        mask = mask.reshape(*self._shape, 1)
        return {"image": image, "augmented_image": augmented, "anomaly_mask": mask}

    def _picture(self, name: str) -> np.ndarray:
        """[h, w, 3] uint8."""
        if name not in self._cache:
            height, width = self._shape
            data = self._read(name, 4 * height * width + _MOST_HEADER)
            if _webp_size(data) != (width, height):
                raise ValueError(f"{name} is no picture of {width} × {height} pixels")
            with WebPImagePlugin.WebPImageFile(io.BytesIO(data)) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            if not name.startswith("photos/") or pixels.nbytes > self._room:
                return pixels
            self._cache[name] = pixels
            self._room -= pixels.nbytes
        return self._cache[name]

    def _read(self, name: str, most_bytes: int) -> bytes:
        """The bytes of an entry; ``write`` stores entries without compression."""
        entry = self._archive.getinfo(name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > most_bytes:
            raise ValueError(f"{name} is compressed, or larger than any of its kind")
        return self._archive.read(entry)


def _on_this_machine(path: str) -> str | Path:
    if not storage.is_remote(path):
        return path
    try:
        return copies.local_copy(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # each kind of storage has its own errors
        raise RecordingError(f"cannot be fetched: {storage.reason(path, error)}") from error


def _checked(meta: Any) -> dict[str, Any]:
    """``meta.json``, once its parts have the form that the reader relies on."""
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
        raise RecordingError("is no recording of this version: write it again")
    config, counts = meta["config"], meta["counts"]
    if not meta["photos"]:
        raise ValueError("it names no category")
    for own in dict.values(meta["photos"]):
        Split.parsed(own)
    _made_from(config, meta["photos"])
    sides = height_width(config["image_size"])
    if not all(type(size) is int and 0 <= size < 2**31 for size in (*sides, *counts.values())):
        raise ValueError("a count or the image size is no number")
    if not all(1 <= side <= _MOST_SIDE for side in sides) or (
        type(config["data"]["bit_depth"]) is not int
    ):
        raise ValueError("the image size or the bit depth is out of range")
    return meta


def _inflated(packed: bytes, size: int) -> bytes:
    """Exactly ``size`` bytes."""
    stream = zlib.decompressobj()
    data = stream.decompress(packed, size)
    if len(data) != size or stream.decompress(stream.unconsumed_tail, 1) or not stream.eof:
        raise ValueError("a mask is of another size")
    return data


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a lossless WebP file as ``_webp`` writes it; None for any other file."""
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8L" or len(data) < 25:
        return None
    bits = int.from_bytes(data[21:25], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _write_example(archive: zipfile.ZipFile, name: str, batch: Batch, seen: set[str]) -> None:
    image, augmented = batch["image"][0], batch["augmented_image"][0]
    mask = batch["anomaly_mask"][0]
    photo = f"photos/{hashlib.sha256(image.tobytes()).hexdigest()[:24]}"
    if photo not in seen:
        seen.add(photo)
        archive.writestr(photo, _webp(image))
    archive.writestr(f"{name}.image", photo)
    archive.writestr(f"{name}.mask", zlib.compress(np.packbits(mask).tobytes(), 9))
    archive.writestr(f"{name}.added", _webp(augmented - image))


def _webp(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=60, method=4, exact=True)
    return buffer.getvalue()


def _made_from(config: dict[str, Any], categories: Iterable[str]) -> dict[str, Any]:
    """The settings that the examples of a recording depend on."""
    fields = {"categories": ", ".join(sorted(categories))}
    fields |= {name: config[name] for name in ("seed", "image_size")}
    fields |= {
        f"data.{name}": config["data"][name] for name in ("resize", "bit_depth", "validation_share")
    }
    return fields | {f"synthesis.{name}": value for name, value in config["synthesis"].items()}


def _drawn(
    recording: Recording, split: str, seed: tuple[int, int], index: int
) -> dict[str, np.ndarray]:
    count = recording.count(split)
    epoch, place = divmod(index, count)
    return recording.example(split, int(_order(seed, epoch, count)[place]))


@functools.lru_cache(maxsize=2)  # the batches made ahead may reach into the next epoch
def _order(seed: tuple[int, int], epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([*seed, epoch]).permutation(count)
