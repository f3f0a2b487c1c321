"""What networks that several categories share were trained on: kept beside them, by category."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax

from diffad_jax.data.split import Split
from diffad_jax.errors import ConfigError
from diffad_jax.runtime import console, files
from diffad_jax.training.held_out import forget, forget_stages, one_process

FILE = "trained_on.json"
ADOPTED = "adopted.json"  # in the folder of a category that they were not trained on


def describe(photos: Mapping[str, Split]) -> str:
    """How many photos are trained on and which, for a fingerprint."""
    if len(photos) == 1:
        (own,) = photos.values()
        return own.describe()
    return "; ".join(f"{category}: {own.describe()}" for category, own in photos.items())


def trained_on(directory: Path) -> list[str]:
    """The categories whose photos the networks in ``directory`` learn from; none without any."""
    return sorted(files.read_json(directory / FILE))


def settle(
    directory: Path, photos: Mapping[str, Split], retrain: bool, finetune: bool
) -> dict[str, Split]:
    """The photos that the networks in ``directory`` learn from, by category.

    Where they have begun with other categories or photos, ``retrain`` forgets them, and
    ``finetune`` keeps the weights for training to begin from.

    Args:
      directory: of what is shared.
      photos: of each category, as settled.
      retrain, finetune: see ``held_out.settle``.

    Raises:
      ConfigError: they have begun without one of the categories, or with one that is not named.
    """
    wanted = {category: own.describe() for category, own in photos.items()}
    begun = files.read_json(directory / FILE)
    if begun and begun != wanted:
        if left_out := sorted(begun.keys() - wanted.keys()):
            if retrain or finetune:
                raise ConfigError(
                    f"the networks in {directory} are those of {', '.join(left_out)}, too: name "
                    f"all, --config.categories={','.join(sorted(begun | wanted))}"
                )
        elif retrain or finetune:
            console.note(f"{directory}: training {'anew' if retrain else 'on'} with "
                         f"{', '.join(wanted)}")  # fmt: skip
            one_process()
            for category in begun:  # they stand on the networks before
                forget_stages(directory.parent / category, keep_weights=finetune)
            forget(directory, keep_weights=finetune)
            for category in wanted:
                _adopted(directory, category).unlink(missing_ok=True)
            begun = {}
        elif new := sorted(n for n in wanted.keys() - begun if not _adopted(directory, n).exists()):
            raise ConfigError(
                f"the networks in {directory} were trained on {', '.join(sorted(begun))}, without "
                f"{', '.join(new)}: --finetune trains on with all, --retrain anew; where no "
                f"network has to learn the product, --mode=adopt --category={new[0]} takes it in"
            )
    if not begun and jax.process_index() == 0:
        files.write_whole(directory / FILE, json.dumps(wanted, indent=1) + "\n")
    # Sorted: in whatever order they are named, the same examples come.
    return {category: photos[category] for category in sorted(wanted.keys() & (begun or wanted))}


def _adopted(directory: Path, category: str) -> Path:
    return directory.parent / category / ADOPTED
