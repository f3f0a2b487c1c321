"""A procedural category with real masks: what ``make demo`` trains on. Nothing is downloaded.

Half of the photos show a woven fabric with a printed motif, the others a machined flange on a
table. Defects look like real ones (a missing bolt, a stain, a fibre …), unlike the Perlin-shaped
textures that training pastes. All draws come from one seed. Pictures are stored uncompressed, so
the files are the same bytes on every machine.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from diffad_jax.data.listing import DataError
from diffad_jax.runtime import files
from diffad_jax.runtime.regular import read_regular

CATEGORY = "toy"
DEFECT_TYPES = ("displaced_element", "foreign_fibre", "missing_element", "scratch", "stain")
NUM_TRAIN, NUM_TEST_GOOD, NUM_TEST_DEFECT = 200, 20, 8  # the last of each type
_VERSION = 2
_MOST_LABEL = 2**10  # bytes
_SUPERSAMPLING = 3
_VISIBLE = 8.0  # levels of 255 by which a defect must change a pixel to be in the mask

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (y, x), each [n, n] -> [n, n]


@dataclasses.dataclass
class Scene:
    """Everything that varies between photos, in units of the photo's side."""

    rng: np.random.Generator  # for the defect
    draw: Callable[["Scene", np.ndarray, np.ndarray], np.ndarray]  # (scene, y, x) -> [n, n, 3]
    shift: np.ndarray  # [2]
    angle: float  # radians
    tint: np.ndarray  # [3]
    phase: np.ndarray  # [2], of the weave
    elements: np.ndarray  # [k, 2], places of motifs or bolts
    element_radius: float
    overlays: list[tuple[Field, np.ndarray]] = dataclasses.field(default_factory=list)


def write_category(root: str | Path, *, seed: int = 0, image_size: int = 64) -> None:
    """Writes ROOT/toy in MVTec's layout: 200 normal photos, 60 test photos, exact masks.

    Returns at once where it is already written. A half-written category never has the final name.
    Of several processes that write at once the first to finish wins; all write the same bytes.

    Raises:
      layouts.DataError: the folder holds something else, or the toy of another seed or size.
    """
    folder = Path(root) / CATEGORY
    label = json.dumps({"toy": _VERSION, "seed": seed, "image_size": image_size})
    if _is_written(folder, label):
        return
    try:
        with files.whole(folder) as temporary:
            _write_photos(temporary, seed, image_size)
            (temporary / "toy.json").write_text(label)
    except OSError:
        if not _is_written(folder, label):
            raise


def _is_written(folder: Path, label: str) -> bool:
    """Whether the folder is there; DataError where it is not the one of this label."""
    if not folder.exists():
        return False
    marker = folder / "toy.json"
    try:
        found = read_regular(marker, _MOST_LABEL).decode()
    except (OSError, ValueError):
        found = "something else"
    if found != label:
        raise DataError(
            f"{folder} holds {found}, not the toy category {label}: "
            "delete it, or set config.data.root to another folder"
        )
    return True


def _write_photos(folder: Path, seed: int, image_size: int) -> None:
    for i in range(NUM_TRAIN):
        photo, _ = render_photo(seed, i, None, image_size)
        _save(folder / "train/good" / f"{i:03d}.png", photo)
    index = NUM_TRAIN
    for i in range(NUM_TEST_GOOD):
        photo, _ = render_photo(seed, index, None, image_size)
        _save(folder / "test/good" / f"{i:03d}.png", photo)
        index += 1
    for defect in DEFECT_TYPES:
        for i in range(NUM_TEST_DEFECT):
            photo, mask = render_photo(seed, index, defect, image_size)
            _save(folder / "test" / defect / f"{i:03d}.png", photo)
            _save(folder / "ground_truth" / defect / f"{i:03d}_mask.png", mask)
            index += 1


def render_photo(
    seed: int, index: int, defect: str | None, image_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Photo ``index`` of the category, with a defect if one is named.

    Outside its mask a defect photo equals its defect-free twin in every pixel.

    Args:
      seed: of the category.
      index: even ones are fabric, odd ones flanges.
      defect: one of ``DEFECT_TYPES``, or None.
      image_size: pixels of a side.

    Returns:
      [s, s, 3] uint8, and the mask [s, s] uint8 in {0, 255}.
    """
    rng = np.random.Generator(np.random.PCG64([seed, index]))
    scene = _fabric(rng) if index % 2 == 0 else _flange(rng)
    light = _lighting(rng, image_size)
    # A sum of uniforms needs no logarithm, as a normal draw does: logarithms differ by machine.
    noise = 6.0 * (rng.random((image_size, image_size, 3, 4)).sum(axis=-1) - 2.0)
    clean = _expose(scene, light, image_size)
    mask = np.zeros((image_size, image_size), bool)
    if defect is not None:
        _DEFECTS[defect](scene)
        defective = _expose(scene, light, image_size)
        # Rounded here and below: the last bits of a sine differ between machines.
        mask = np.round(np.abs(defective - clean).max(axis=-1), 3) >= _VISIBLE
        clean = np.where(mask[..., None], defective, clean)
    photo = np.floor(np.clip(np.round(clean + noise, 3), 0.0, 255.0) + 0.5)
    return photo.astype(np.uint8), np.uint8(255) * mask


def _expose(scene: Scene, light: np.ndarray, size: int) -> np.ndarray:
    """[size, size, 3] float in 0 … 255, without noise."""
    n = size * _SUPERSAMPLING
    grid = (np.arange(n) + 0.5) / n - 0.5
    y, x = np.meshgrid(grid - scene.shift[0], grid - scene.shift[1], indexing="ij")
    cos, sin = np.cos(scene.angle), np.sin(scene.angle)
    y, x = cos * y - sin * x, sin * y + cos * x
    picture = scene.draw(scene, y, x)
    for opacity, colour in ((o(y, x), c) for o, c in scene.overlays):
        picture += opacity[..., None] * (colour - picture)
    small = picture.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING, 3).mean(axis=(1, 3))
    return np.clip(255.0 * small * light, 0.0, 255.0)


def _lighting(rng: np.random.Generator, size: int) -> np.ndarray:
    """Brightness and a gradient over the picture: [size, size, 1], about 1."""
    grid = (np.arange(size) + 0.5) / size - 0.5
    level, down, across = rng.uniform(0.92, 1.05), rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)
    return (level + down * grid[:, None] + across * grid[None, :])[..., None]


def _fabric(rng: np.random.Generator) -> Scene:
    places = (np.arange(3) - 1.0) / 3.0
    elements = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)
    return Scene(
        rng=rng,
        draw=_draw_fabric,
        shift=rng.uniform(-0.03, 0.03, 2),
        angle=rng.uniform(-0.05, 0.05),
        tint=rng.uniform(0.96, 1.04, 3),
        phase=rng.uniform(0.0, 2.0 * np.pi, 2),
        elements=elements,
        element_radius=0.095,
    )


def _draw_fabric(scene: Scene, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    threads = 2.0 * np.pi * 9.0
    weave = np.sin(threads * x + scene.phase[0]) * np.sin(threads * y + scene.phase[1])
    cloth = np.array([0.78, 0.72, 0.60]) * scene.tint * (1.0 + 0.07 * weave[..., None])
    for cy, cx in scene.elements:  # a printed diamond with a dot in it
        distance = np.abs(y - cy) + np.abs(x - cx)
        print_ = _soft(scene.element_radius - distance, 0.01)[..., None]
        dot = _soft(0.035 - np.hypot(y - cy, x - cx), 0.01)[..., None]
        ink = np.array([0.18, 0.30, 0.52]) * (1.0 + 0.1 * weave[..., None])
        cloth = cloth + print_ * (ink - cloth)
        cloth = cloth + dot * (np.array([0.80, 0.35, 0.20]) - cloth)
    return cloth


def _flange(rng: np.random.Generator) -> Scene:
    turn = rng.uniform(-0.06, 0.06)
    angles = turn + np.arange(5) * np.pi / 2.5
    return Scene(
        rng=rng,
        draw=_draw_flange,
        shift=rng.uniform(-0.03, 0.03, 2),
        angle=0.0,
        tint=rng.uniform(0.97, 1.03, 3),
        phase=rng.uniform(0.0, 2.0 * np.pi, 2),
        elements=0.275 * np.stack([np.sin(angles), np.cos(angles)], axis=-1),
        element_radius=0.075,
    )


def _draw_flange(scene: Scene, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    grain = np.sin(40.0 * x + scene.phase[0]) * np.sin(9.0 * y + scene.phase[1])
    table = np.array([0.30, 0.36, 0.34]) * (1.0 + 0.05 * grain[..., None])
    radius = np.hypot(y, x)
    turned = 1.0 + 0.05 * np.sin(70.0 * radius)  # marks of the lathe
    metal = np.array([0.66, 0.67, 0.70]) * scene.tint * turned[..., None]
    picture = table + _soft(0.40 - radius, 0.01)[..., None] * (metal - table)
    rim = _soft(0.018 - np.abs(radius - 0.175), 0.01)[..., None]
    picture = picture + rim * (np.array([0.42, 0.43, 0.46]) - picture)
    hole = _soft(0.115 - radius, 0.01)[..., None]
    picture = picture + hole * (np.array([0.10, 0.10, 0.12]) - picture)
    for cy, cx in scene.elements:  # a brass bolt with a dark rim
        distance = np.hypot(y - cy, x - cx)
        rim = _soft(scene.element_radius - distance, 0.008)[..., None]
        head = _soft(0.72 * scene.element_radius - distance, 0.008)[..., None]
        picture = picture + rim * (np.array([0.20, 0.18, 0.16]) - picture)
        picture = picture + head * (np.array([0.80, 0.66, 0.34]) - picture)
    return picture


def _missing_element(scene: Scene) -> None:
    gone = scene.rng.integers(len(scene.elements))
    scene.elements = np.delete(scene.elements, gone, axis=0)


def _displaced_element(scene: Scene) -> None:
    moved = scene.rng.integers(len(scene.elements))
    angle = scene.rng.uniform(0.0, 2.0 * np.pi)
    step = scene.rng.uniform(0.8, 1.2) * scene.element_radius
    scene.elements[moved] += step * np.array([np.sin(angle), np.cos(angle)])


def _scratch(scene: Scene) -> None:
    start, end = _stroke(scene, 0.15, 0.40)
    width = scene.rng.uniform(0.014, 0.022)
    bright = scene.rng.integers(2)
    colour = np.full(3, 0.97 if bright else 0.08)

    def opacity(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return 0.9 * _soft(width - _distance_to_segment(y, x, start, end), 0.01)

    scene.overlays.append((opacity, colour))


def _foreign_fibre(scene: Scene) -> None:
    start, end = _stroke(scene, 0.20, 0.35)
    bend = scene.rng.uniform(-0.12, 0.12)
    colour = scene.rng.uniform(0.0, 1.0, 3) * np.array([0.9, 0.5, 0.9])
    across = np.array([end[1] - start[1], start[0] - end[0]])
    s = np.linspace(0.0, 1.0, 9)[:, None]
    points = start + s * (end - start) + bend * np.sin(np.pi * s) * across / np.hypot(*across)

    def opacity(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        pieces = zip(points[:-1], points[1:], strict=True)
        distance = np.min([_distance_to_segment(y, x, a, b) for a, b in pieces], axis=0)
        return _soft(0.016 - distance, 0.01)

    scene.overlays.append((opacity, colour))


def _stain(scene: Scene) -> None:
    centre = _place(scene)
    radius = scene.rng.uniform(0.07, 0.13)
    squeeze = scene.rng.uniform(0.6, 1.0)
    lobes = scene.rng.uniform(0.0, 2.0 * np.pi, 2)
    colour = scene.rng.uniform(0.10, 0.30, 3)

    def opacity(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        dy, dx = y - centre[0], (x - centre[1]) / squeeze
        angle = np.arctan2(dy, dx)
        waves = 0.2 * np.sin(2 * angle + lobes[0]) + 0.1 * np.sin(3 * angle + lobes[1])
        edge = radius * (1 + waves)
        return 0.65 * _soft(edge - np.hypot(dy, dx), 0.02)

    scene.overlays.append((opacity, colour))


_DEFECTS: dict[str, Callable[[Scene], None]] = {
    "displaced_element": _displaced_element,
    "foreign_fibre": _foreign_fibre,
    "missing_element": _missing_element,
    "scratch": _scratch,
    "stain": _stain,
}


def _place(scene: Scene) -> np.ndarray:
    """A point on the product, [2]."""
    angle, radius = scene.rng.uniform(0.0, 2.0 * np.pi), scene.rng.uniform(0.05, 0.32)
    return radius * np.array([np.sin(angle), np.cos(angle)])


def _stroke(scene: Scene, shortest: float, longest: float) -> tuple[np.ndarray, np.ndarray]:
    centre, angle = _place(scene), scene.rng.uniform(0.0, np.pi)
    half = 0.5 * scene.rng.uniform(shortest, longest) * np.array([np.sin(angle), np.cos(angle)])
    return centre - half, centre + half


def _distance_to_segment(
    y: np.ndarray, x: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    dy, dx = end - start
    s = np.clip(((y - start[0]) * dy + (x - start[1]) * dx) / (dy * dy + dx * dx), 0.0, 1.0)
    return np.hypot(y - start[0] - s * dy, x - start[1] - s * dx)


def _soft(inside: np.ndarray, width: float) -> np.ndarray:
    """0 outside, 1 inside, linear over ``width`` about the edge."""
    return np.clip(inside / width + 0.5, 0.0, 1.0)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=0)
