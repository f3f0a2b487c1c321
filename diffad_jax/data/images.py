"""Files to pixels: one decoder (Pillow) and one resize rule for training, evaluation, prediction."""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from etils import epath
from PIL import Image, ImageOps, UnidentifiedImageError

from diffad_jax.data.layouts import IMAGE_SUFFIXES

T = TypeVar("T")


class ImageError(ValueError):
    """A file cannot be used as an image; the message names it and the remedy."""


def read_image(path: str | os.PathLike[str], image_size: int | None, resize: str) -> np.ndarray:
    """Decodes a photo to RGB: [h, w, 3] uint8.

    Grey becomes three equal channels, 16 bit is divided by 257, transparency is dropped, and the
    camera's orientation tag is obeyed.

    Args:
      path: PNG, JPEG, BMP or TIFF; local or any path that etils.epath reads.
      image_size: h = w to resize to; None keeps the size.
      resize: ``bilinear`` samples the four nearest pixels (cv2.INTER_LINEAR, as published);
        ``antialias`` weighs all pixels that an output pixel covers.

    Raises:
      ImageError: not an image, damaged, or too large.
    """
    pixels = np.asarray(_decode(path, _to_rgb))
    return _resize(pixels, image_size, resize)


def read_mask(
    path: str | os.PathLike[str], image_size: int, rule: str, photo_size: tuple[int, int]
) -> np.ndarray:
    """Decodes a ground-truth mask: [image_size, image_size] bool, true where anomalous.

    Args:
      path: a grey image, white where anomalous.
      image_size: resized bilinearly (as published) to this height and width.
      rule: which resized pixels count: ``full`` those that are still white (the published code
        truncates), ``half`` those above half, ``any`` all that are not black.
      photo_size: (width, height) of the photo that it belongs to.

    Raises:
      ImageError: damaged, or of another size than its photo.
    """
    mask = _decode(path, lambda image: image.convert("L"))
    if mask.size != photo_size:
        raise ImageError(
            f"{path} is {mask.size[0]} × {mask.size[1]}, its photo {photo_size[0]} × "
            f"{photo_size[1]}: a mask must be as large as its photo"
        )
    share = _bilinear(np.asarray(mask)[..., None], image_size)[..., 0] / 255.0
    if rule == "full":
        return share >= 1.0 - 1e-6
    return share > (0.5 if rule == "half" else 0.0)


def photo_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) of a photo, orientation obeyed; only the header is decoded where it can be."""
    return _decode(path, lambda image: image, oriented=True).size


def read_images(
    paths: Sequence[str], image_size: int, resize: str, on_bad_image: str = "fail"
) -> tuple[np.ndarray, list[int], list[tuple[str, str]]]:
    """Decodes many photos on all cores.

    Returns:
      [n, image_size, image_size, 3] uint8, the indices of the paths read, and (path, reason) of
      those skipped.

    Raises:
      ImageError: a bad image and ``on_bad_image`` is ``fail``, or no good one.
    """

    def read(path: str) -> np.ndarray | ImageError:
        try:
            return read_image(path, image_size, resize)
        except ImageError as error:
            if on_bad_image == "fail":
                raise
            return error

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(read, paths))
    kept = [i for i, r in enumerate(results) if not isinstance(r, ImageError)]
    skipped = [(paths[i], str(r)) for i, r in enumerate(results) if isinstance(r, ImageError)]
    if not kept:
        raise ImageError(f"none of {len(paths)} images could be read; the first: {skipped[0][1]}")
    return np.stack([results[i] for i in kept]), kept, skipped


def find_images(folder: str | os.PathLike[str]) -> list[str]:
    """All images below ``folder``, sorted; links to folders are not followed."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        found += [
            os.path.join(parent, n)
            for n in names
            if os.path.splitext(n)[1].lower() in IMAGE_SUFFIXES and not n.startswith(".")
        ]
    return sorted(found)


def _decode(
    path: str | os.PathLike[str], convert: Callable[[Image.Image], T], oriented: bool = False
) -> T:
    try:
        data = epath.Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from error
    if not data:
        raise ImageError(f"{path} is an empty file (0 bytes): restore or remove it")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if oriented:
                image = ImageOps.exif_transpose(image)
            return convert(image)
    except UnidentifiedImageError:
        raise ImageError(
            f"{path} is no image that can be decoded, whatever its name says: remove it"
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} is too large: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{path} is damaged ({error}): restore or remove it") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bit grey; convert("L") would clip
        scaled = np.round(np.asarray(image).astype(np.float64) / 257.0)
        image = Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))
    elif image.mode in ("LA", "RGBA", "PA"):
        image = image.convert("RGBA" if image.mode != "LA" else "LA")
        image = image.convert("RGB") if image.mode == "RGBA" else image.getchannel(0)
    return image.convert("RGB")


def _resize(pixels: np.ndarray, size: int | None, rule: str) -> np.ndarray:
    if size is None or pixels.shape[:2] == (size, size):
        return pixels
    if rule == "antialias":
        resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(resized)
    return np.round(_bilinear(pixels, size)).astype(np.uint8)


def _bilinear(pixels: np.ndarray, size: int) -> np.ndarray:
    """[h, w, c] -> [size, size, c] float32 from the four nearest pixels, centres at halves."""

    def places(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(place).astype(int)
        return low, np.minimum(low + 1, length - 1), (place - low).astype(np.float32)

    y0, y1, fy = places(pixels.shape[0])
    x0, x1, fx = places(pixels.shape[1])
    rows = pixels[y0] * (1 - fy)[:, None, None] + pixels[y1] * fy[:, None, None]
    return rows[:, x0] * (1 - fx)[:, None] + rows[:, x1] * fx[:, None]
