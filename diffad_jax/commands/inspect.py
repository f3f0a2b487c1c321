"""``--mode=inspect``: what the data are."""

from pathlib import Path

import ml_collections

from diffad_jax.data import inspect as data_inspect
from diffad_jax.data import inspect_text
from diffad_jax.data.examples import write_toy
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import console, files


def inspect(config: ml_collections.ConfigDict, output: Path, overwrite: bool = False) -> None:
    """Prints what each category holds; writes its summary and contact sheet below ``output``.

    Raises:
      UserError: they are there already, and ``overwrite`` is not given.
      layouts.DataError: a category is missing or empty.
    """
    written = ("summary.json", "contact_sheet.png")
    files.require_new(overwrite, *(output / c / n for c in config.categories for n in written))
    write_toy(config)
    synthesis = get_method(config).needs_synthesis
    for category in config.categories:
        summary = data_inspect.inspect_category(config, category, output / category, synthesis)
        console.say(inspect_text.as_text(summary))
        console.say(f"{category}: summary.json and contact_sheet.png are in {output / category}\n")
