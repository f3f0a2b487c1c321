"""Small photos, masks and recordings, drawn, and mutants of them: the only answer to damage is the
reader's own error."""

import io
import itertools
import random
import warnings
from pathlib import Path

import ml_collections
import numpy as np
from fuzzing import mutated
from PIL import Image

from diffad_jax.config import stored
from diffad_jax.data import images, masks, recorded, split, strips
from diffad_jax.data.photo import Rules
from diffad_jax.data.split import Split
from diffad_jax.errors import UserError

RULES = Rules("bilinear", bit_depth=12, photo_mib=4.0)
CONFIG = ml_collections.ConfigDict(
    {
        "seed": 0,
        "image_size": 16,
        "data": {"resize": "antialias", "bit_depth": 8, "validation_share": 0.1},
        "synthesis": {"max_beta": 0.8},
    }
)
_WORDS = (
    b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"IDAT", b"IEND",
    b"\xff\xd8", b"\xff\xda", b"II*\0", b"PK\1\2", b"{}", b"[" * 5000, b"-1", b"9" * 99, b"../x",
)  # fmt: skip
_RNG = np.random.default_rng(0)
_RGB = _RNG.integers(0, 256, (24, 31, 3), dtype=np.uint8)
_GREY = np.zeros((24, 31), np.uint8)
_GREY[4:12, 5:20], _GREY[14:20, 8:14] = 255, 10


def _encoded(pixels: np.ndarray, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


PHOTOS = [
    *(_encoded(_RGB, form) for form in ("PNG", "JPEG", "BMP", "TIFF")),
    _encoded(_RGB, "TIFF", compression="tiff_lzw"),
    _encoded(_RGB, "JPEG", progressive=True),
    _encoded(_RNG.integers(0, 4096, (24, 31), dtype=np.uint16), "PNG"),
]
MASKS = [_encoded(_GREY, form) for form in ("PNG", "JPEG", "BMP", "TIFF")]


def record(path: Path, examples: int = 3) -> bytes:
    """A recording of drawn pictures; its bytes."""

    def batches():
        while True:
            image = _RNG.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
            mask = _RNG.integers(0, 2, (1, 16, 16, 1), dtype=np.uint8)
            yield {"image": image, "augmented_image": image + mask, "anomaly_mask": mask}

    streams = {split: (examples, batches()) for split in ("train", "validation")}
    recorded.write(CONFIG, path, {"tiles": Split({"a.png": "0" * 64}, {})}, streams)
    return path.read_bytes()


def read_photo(path: Path) -> None:
    assert images.read_image(path, 8, RULES).shape == (8, 8, 3)
    images.photo_size(path, RULES)


def read_mask(path: Path) -> None:
    found, _ = masks.survey([str(path)], RULES)
    assert set(np.unique(found.read(path, 8, "full"))) <= {0, 1}


def read_recording(path: Path) -> None:
    """All that training reads."""
    recording = recorded.Recording(path, cache_mib=1)
    recording.check(CONFIG, ["tiles"], "train")
    for i in range(min(recording.count("train"), 5)):
        for part in recording.example("train", i).values():
            assert part.shape[:2] == (16, 16)


def read_strips(path: Path) -> None:
    """As the whole photo, where both can be read."""
    rows = np.concatenate([*strips.read(path, RULES)])
    np.testing.assert_array_equal(rows, images.read_image(path, None, RULES))


def read_config(path: Path) -> None:
    path.replace(path.with_name("config.json"))
    stored.flat(stored.read(path.parent))


def read_split(path: Path) -> None:
    path.replace(path.with_name(split.FILE))
    found = split.read(path.parent)
    assert set(map(type, (*found.train.values(), *found.held_out.values()))) <= {str}


def _split(folder: Path) -> list[bytes]:
    split.write(folder, Split({"a.png": "0" * 64}, {"b.png": "1" * 64}))
    return [(folder / split.FILE).read_bytes()]


KINDS = {  # read, its error, the sound files
    "photo": (read_photo, images.ImageError, lambda folder: PHOTOS),
    "photo in strips": (read_strips, images.ImageError, lambda folder: PHOTOS),
    "mask": (read_mask, images.ImageError, lambda folder: MASKS),
    "recording": (
        read_recording,
        recorded.RecordingError,
        lambda folder: [record(folder / "sound.zip")],
    ),
    "config.json": (read_config, UserError, lambda folder: [CONFIG.to_json().encode()]),
    "photos.json": (read_split, UserError, _split),
}


def fuzz(folder: Path, kind: str, rounds: int, seed: int) -> tuple[int, int]:
    """Reads mutants of one kind of file; how many were refused, and read."""
    path = folder / "mutant"
    read, expected, make = KINDS[kind]
    seeds = make(folder)
    rng, refused = random.Random(seed), 0
    for i, whole in zip(range(rounds), itertools.cycle(seeds), strict=False):
        data = mutated(whole, rng, _WORDS)
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of odd metadata
                read(path)
        except expected as error:
            assert str(path.parent) in str(error), error
            refused += 1
        except BaseException as error:
            raise AssertionError(f"seed {seed}, mutant {i} of a {kind}: {data!r}") from error
    return refused, rounds - refused
