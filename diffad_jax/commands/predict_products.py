"""Photos of several products: told apart, then each is scored by its product's detector."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_collections

from diffad_jax.commands.predict import How, Judge, UnreadableError, check, predict_listing
from diffad_jax.data import images
from diffad_jax.errors import ConfigError
from diffad_jax.inference import sources
from diffad_jax.inference.products import Products, of_workdir
from diffad_jax.inference.sources import Photo
from diffad_jax.runtime import cells, console, files, lock

TABLE = "products.csv"
_SHOWN = 20  # photos of no product at the end; the table names all
_MOST_HELD = 256  # photos in memory at once, of the networks' size


class _Told(NamedTuple):
    photo: Photo
    product: str  # "" where it is like none, or unreadable
    distances: Sequence[float]  # to each product; none of an unreadable one
    reason: str = ""  # why it has no product


def predict_products(
    config: ml_collections.ConfigDict,
    workdir: Path,
    source: Path,
    output: Path,
    how: How,
    products: Products | None = None,
    judges: Mapping[str, Judge] | None = None,
) -> None:
    """Finds the product of each photo, and scores it by that one's detector.

    ``output / products.csv`` lists photos and products; ``output / CATEGORY`` holds what
    ``predict_photos`` writes. Photos that are like no product are not scored.

    Args:
      config: the whole config.
      workdir, source, output: see ``predict_photos``.
      how: without threshold and shard, which go with one category alone.
      products, judges: of an exported folder, which ``workdir`` is then.

    Raises:
      ConfigError: nothing tells the categories apart; a flag does not go with several.
      UnreadableError: at the end, where photos are of no product, or could not be read; exit
        status 3.
    """
    if how.threshold is not None or how.shard:
        raise ConfigError(
            "--threshold and --shard go with one category: "
            f"--config.categories={config.categories[0]}"
        )
    output = output.expanduser()
    of_category = {c: config.copy_and_resolve_references() for c in config.categories}
    for category, own in of_category.items():
        own.categories = (category,)
        check(own, how)
    listing = sources.list_photos(source, output)
    products = products or of_workdir(config, workdir)
    told = list(_tell(products, listing.photos))
    with lock.hold(output):
        files.write_whole(output / TABLE, _table(products, told))
    unscored = []
    for category, detector in products.detectors.items():
        photos = [one.photo for one in told if one.product == category]
        console.say(f"{category}: {len(photos)} of {len(told)} photos")
        if not photos:
            continue
        try:
            predict_listing(
                of_category[category], workdir, listing._replace(photos=photos),
                output / category, how, detector,
                calibration=judges[category].calibration if judges else None,
            )  # fmt: skip
        except UnreadableError as error:  # the other products' photos come first
            unscored.append(f"{category}: {error}")
    console.say(f"{output / TABLE} says which product each photo shows")
    if refused := [one.reason for one in told if one.reason]:
        more = [f"and {len(refused) - _SHOWN} more, in {TABLE}"] if refused[_SHOWN:] else []
        unscored.append(
            f"{len(refused)} of {len(told)} photos have no score:\n  "
            + "\n  ".join([*refused[:_SHOWN], *more])
        )
    if unscored:
        raise UnreadableError("\n".join(unscored))


def _tell(products: Products, photos: Sequence[Photo]) -> Iterator[_Told]:
    config = next(iter(products.detectors.values())).config  # all see photos by the same rules
    names, rules = ", ".join(products.detectors), images.rules(config.data)
    for i in range(0, len(photos), _MOST_HELD):
        part = photos[i : i + _MOST_HELD]
        paths = [photo.path for photo in part]
        try:
            pixels, kept, skipped = images.read_images(paths, config.image_size, rules, "skip")
        except images.ImageError as error:  # none is readable
            yield from (_Told(photo, "", (), str(error)) for photo in part)
            continue
        reasons = dict(skipped)
        found = dict(zip(kept, products.distances(pixels).tolist(), strict=True))
        for j, photo in enumerate(part):
            if j not in found:
                yield _Told(photo, "", (), reasons[photo.path])
                continue
            product = products.nearest(found[j])
            why = "" if product else f"{photo.path} is like none of {names}"
            yield _Told(photo, product, found[j], why)


def _table(products: Products, told: Sequence[_Told]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "product", *(f"distance_{name}" for name in products.detectors)])
    nothing = [""] * len(products.detectors)
    for one in told:
        shown = [f"{distance:.4g}" for distance in one.distances]
        table.writerow(cells.plain([one.photo.path, one.product, *(shown or nothing)]))
    return text.getvalue()
