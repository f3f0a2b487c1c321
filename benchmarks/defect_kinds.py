"""Defects that no training sees, drawn on normal photos: to choose settings without labels."""

import functools
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

SIZE = 256  # of the photos that they are drawn on
_JUST_SEEN = 2  # of 255
_CHANGE = (40.0, 100.0)  # of what is not faint, in 1/255
Draw = Callable[[np.random.Generator, np.ndarray], tuple[np.ndarray, np.ndarray]]


def draw(kind: str, photo: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One defect.

    Args:
      kind: a key of ``KINDS``.
      photo: [s, s, 3] uint8.
      seed: of everything that is drawn.

    Returns:
      The photo with the defect, [s, s, 3] uint8, and its mask, [s, s] bool, without what
      nobody can see, such as white that was to get brighter.
    """
    random = np.random.default_rng([seed, *kind.encode()])
    changed, share = KINDS[kind](random, photo.astype(np.float64))
    blended = share[..., None] * changed + (1.0 - share[..., None]) * photo
    defective = np.round(np.clip(blended, 0.0, 255.0)).astype(np.uint8)
    return defective, (share >= 0.5) & _seen(photo, defective)


def _seen(photo: np.ndarray, defective: np.ndarray) -> np.ndarray:
    """[s, s] bool: within a few pixels of where one differs from the other."""
    difference = np.abs(defective.astype(np.int64) - photo).max(-1) > _JUST_SEEN
    return np.asarray(Image.fromarray(difference).convert("L").filter(ImageFilter.MaxFilter(9))) > 0


def _scratch(
    random: np.random.Generator,
    photo: np.ndarray,
    change: tuple[float, float] = _CHANGE,
    widths: tuple[float, float] = (0.008, 0.02),
) -> tuple[np.ndarray, np.ndarray]:
    """A thin crooked line, darker or brighter."""
    size = len(photo)
    steps = np.cumsum(random.normal(0.0, 0.4, 12)) + random.uniform(0.0, 2.0 * np.pi)
    length = size * random.uniform(0.15, 0.5) / len(steps)
    path = np.cumsum(length * np.stack([np.cos(steps), np.sin(steps)], -1), axis=0)
    path += _place(random, size) - path.mean(0)
    width = max(1, round(size * random.uniform(*widths)))
    line = _drawn(size, lambda d: d.line(list(path.ravel()), 255, width))
    return _shifted(random, photo, change), line


def _spots(random: np.random.Generator, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One to four small discs, darker or brighter."""
    size = len(photo)

    def discs(d: ImageDraw.ImageDraw) -> None:
        for _ in range(random.integers(1, 5)):
            (x, y), r = _place(random, size), size * random.uniform(0.01, 0.035)
            d.ellipse([x - r, y - r, x + r, y + r], fill=255)

    return _shifted(random, photo, _CHANGE), _drawn(size, discs)


def _shade(
    random: np.random.Generator,
    photo: np.ndarray,
    gain: tuple[float, float] = (1.35, 1.8),
    radii: tuple[float, float] = (0.1, 0.25),
) -> tuple[np.ndarray, np.ndarray]:
    """A soft-edged area that is darker or brighter by a factor."""
    factor = random.uniform(*gain)
    factor = factor if random.random() < 0.5 else 1.0 / factor
    return factor * photo, _blob(random, len(photo), radii, softness=0.03)


def _blur(random: np.random.Generator, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An area whose texture is worn off."""
    image = Image.fromarray(photo.astype(np.uint8))
    worn = image.filter(ImageFilter.GaussianBlur(len(photo) * random.uniform(0.02, 0.04)))
    return np.asarray(worn, np.float64), _blob(random, len(photo), (0.08, 0.2), softness=0.01)


def _paste(random: np.random.Generator, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A piece of the photo where it does not belong, turned by a quarter."""
    size = len(photo)
    moved = np.roll(np.rot90(photo), random.integers(size // 4, 3 * size // 4, 2), axis=(0, 1))
    return moved, _blob(random, size, (0.06, 0.15), softness=0.0)


def _turned(random: np.random.Generator, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A part that lies askew: what an area shows, turned in place."""
    size = len(photo)
    area = _blob(random, size, (0.08, 0.2), softness=0.0)
    middle = np.argwhere(area > 0.0).mean(0) if area.any() else _place(random, size)
    angle = np.deg2rad(random.uniform(20.0, 60.0)) * random.choice([-1.0, 1.0])
    y, x = np.indices(area.shape) - middle[:, None, None]
    sine, cosine = np.sin(angle), np.cos(angle)
    return _taken_from(
        photo, middle[0] + cosine * y - sine * x, middle[1] + sine * y + cosine * x
    ), area


def _bent(random: np.random.Generator, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A part that is bent: an area pulled aside, most in its middle."""
    size = len(photo)
    area = _blob(random, size, (0.1, 0.25), softness=0.03)
    aside = random.uniform(0.03, 0.08) * size
    direction = random.uniform(0.0, 2.0 * np.pi)
    y, x = np.indices(area.shape)
    pulled = _taken_from(
        photo, y + aside * area * np.sin(direction), x + aside * area * np.cos(direction)
    )
    return pulled, (area > 0.05).astype(np.float64)


def _gone(random: np.random.Generator, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A part that is not there: an area shows what lies beside it."""
    size = len(photo)
    radius = random.uniform(0.06, 0.15)
    direction = random.uniform(0.0, 2.0 * np.pi)
    step = np.round(2.5 * radius * size * np.array([np.sin(direction), np.cos(direction)]))
    y, x = np.indices((size, size))
    return _taken_from(photo, y + step[0], x + step[1]), _blob(random, size, (radius, radius), 0.01)


def _missing(random: np.random.Generator, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A piece broken off: black or white, with a faint grain."""
    size = len(photo)
    level = random.choice([random.uniform(0.0, 40.0), random.uniform(215.0, 255.0)])
    grain = random.normal(level, 5.0, (size, size, 1)).repeat(3, -1)
    return grain, _blob(random, size, (0.05, 0.15), softness=0.0)


KINDS: dict[str, Draw] = {
    "scratch": _scratch,
    "faint scratch": functools.partial(_scratch, change=(12.0, 40.0)),
    "hairline": functools.partial(_scratch, widths=(0.002, 0.008)),
    "spots": _spots,
    "shade": _shade,
    "faint shade": functools.partial(_shade, gain=(1.1, 1.35)),
    "large shade": functools.partial(_shade, radii=(0.25, 0.4)),
    "blur": _blur,
    "paste": _paste,
    "missing": _missing,
    "turned": _turned,
    "bent": _bent,
    "gone": _gone,
}


def _taken_from(photo: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[s, s, 3]: each pixel is what the photo shows at y and x, mirrored beyond its border."""
    channels = [
        ndimage.map_coordinates(photo[..., c], [y, x], order=1, mode="mirror") for c in range(3)
    ]
    return np.stack(channels, axis=-1)


def _place(random: np.random.Generator, size: int) -> np.ndarray:
    return size * random.random(2)


def _shifted(
    random: np.random.Generator, photo: np.ndarray, change: tuple[float, float]
) -> np.ndarray:
    """Darker or brighter, whichever there is room for."""
    step = random.uniform(*change)
    return photo + (step if photo.mean() + random.normal(0.0, 60.0) < 128 else -step)


def _drawn(size: int, shape: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    mask = Image.new("L", (size, size))
    shape(ImageDraw.Draw(mask))
    return np.asarray(mask, np.float64) / 255.0


def _blob(
    random: np.random.Generator, size: int, radii: tuple[float, float], softness: float
) -> np.ndarray:
    """A rough disc of a radius drawn from ``radii``, in shares of ``size``: 1 inside."""
    angles = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    waves = sum(
        random.normal(0.0, 0.2 / k) * np.cos(k * angles + random.uniform(0.0, 2.0 * np.pi))
        for k in (1, 2, 3)
    )
    radius = size * random.uniform(*radii) * np.maximum(1.0 + waves, 0.2)
    edge = _place(random, size) + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    mask = _drawn(size, lambda d: d.polygon(list(edge.ravel()), fill=255))
    if not softness:
        return mask
    image = Image.fromarray(np.round(255.0 * mask).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(softness * size)), np.float64) / 255.0
