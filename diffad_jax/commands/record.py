"""``--mode=record``: training examples in a file."""

from pathlib import Path

import ml_collections

from diffad_jax.commands import proportions
from diffad_jax.data import bit_depth, examples, images, layouts, recorded, split
from diffad_jax.methods.registry import require_synthesis
from diffad_jax.runtime import console, files


def record(
    config: ml_collections.ConfigDict, output: Path, num_examples: int, overwrite: bool = False
) -> None:
    """Writes training examples, and ``training.validation_examples`` held-out ones, to a file.

    Raises:
      UserError: ``output`` is there already, and ``overwrite`` is not given.
      layouts.DataError: a category is missing, or there are several that share no networks.
    """
    files.require_new(overwrite, output)
    files.remove_leftovers(output.parent)
    if len(config.categories) != 1 and not config.shared:
        raise layouts.DataError(
            "a recording holds one category, or those that share their networks: "
            f"--config.categories={config.categories[0]} or --config.shared=True"
        )
    require_synthesis(config)
    examples.prepare(config)
    counts = {"train": num_examples, "validation": config.training.validation_examples}
    config.data.recorded = ""  # from the photos, whatever training would use
    proportions.settle(config, None)
    photos = {category: split.draw(config, category) for category in config.categories}
    every = {n: h for own in photos.values() for n, h in (own.train | own.held_out).items()}
    normal_files = split.paths(config, every)
    rules = images.rules(config.data)
    config = bit_depth.stated(config, lambda: bit_depth.detect(normal_files, rules))
    streams = {s: (n, examples.batches(config, photos, s, 1)) for s, n in counts.items()}
    recorded.write(config, output, photos, streams)
    console.say(f"{num_examples} examples in {output}, {output.stat().st_size / 2**20:.1f} MiB")
