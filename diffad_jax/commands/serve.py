"""The inspection page and its HTTP API."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import ml_collections
import numpy as np

from diffad_jax.commands import exported_folder
from diffad_jax.errors import is_refused
from diffad_jax.export import registry
from diffad_jax.inference import products
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import console

if TYPE_CHECKING:
    from diffad_jax.serve.categories import Categories, Entry, Tell
    from diffad_jax.serve.service import Common

_OF_THE_GRAPH = (
    "an exported folder is served, which holds no photos to choose a threshold by: serve the work "
    "directory that it came from to correct and recalibrate"
)


def serve(
    config: ml_collections.ConfigDict,
    workdir: Path,
    host: str,
    port: int,
    watch: Path | None = None,
    webhook: str | None = None,
) -> None:
    """Serves until it is stopped.

    Args:
      config: the whole config; ``evaluation.batch_size`` is the most photos of a batch.
      workdir: holds the categories' weights and thresholds, and gets the corrections; or an
        exported folder of one category or of several, which nothing is written to.
      host: an address of this machine; others than its own (127.0.0.1) need a token.
      port: 0 takes a free one.
      watch: a folder whose new photos are inspected.
      webhook: an address that gets a notice of each anomalous photo.

    Raises:
      ConfigError: the webhook's address, its secret or the token cannot be used; the port is taken;
        the exported folder is damaged, or the config asks for another graph.
      layouts.DataError: ``watch`` is no folder; held-out photos are gone.
      lock.LockedError: another server keeps corrections of a category.
    """
    # What they need comes with [serve].
    from diffad_jax.serve import server
    from diffad_jax.serve.api import Api
    from diffad_jax.serve.limits import Limits
    from diffad_jax.serve.service import Common
    from diffad_jax.serve.watch import Watch
    from diffad_jax.serve.webhook import SECRET, Webhook

    with contextlib.ExitStack() as stack:
        common = Common(Limits())
        if exported := registry.exported(workdir):
            categories = _of_exported(config, exported, common)
        else:
            categories = _of_workdir(config, workdir, common, stack)
        for name, (service, _) in categories.entries.items():
            if (calibration := service.model.calibration).threshold is None:
                console.note(f"{name}: no verdicts: {calibration.why_no_threshold}")
        if webhook:
            told = Webhook(webhook, os.environ.get(SECRET, ""), common.counts)
            stack.callback(told.close)
            common.on_anomalous = told.send
        watched = Watch(categories, watch.expanduser()) if watch else None
        console.note("compiling for batches of one photo to the largest")
        categories.warm_up()
        server.run(Api(categories, watched), host, port)


def _of_workdir(
    config: ml_collections.ConfigDict,
    workdir: Path,
    common: "Common",
    stack: contextlib.ExitStack,
) -> "Categories":
    from diffad_jax.serve.categories import Categories

    several = len(config.categories) > 1
    if several and get_method(config).tell(ml_collections.FrozenConfigDict(config)):
        told = products.of_workdir(config, workdir)
        detectors, tell = told.detectors, _tell(told)
    else:
        detectors, tell = products.load(config, workdir), None
    entries = {
        category: _entry(detector.trained, workdir, category, common, stack)
        for category, detector in detectors.items()
    }
    return Categories(common, entries, tell)


def _entry(
    trained: Detector,
    workdir: Path,
    category: str,
    common: "Common",
    stack: contextlib.ExitStack,
) -> "Entry":
    from diffad_jax.serve.categories import Entry
    from diffad_jax.serve.learning import Learning, holding, present
    from diffad_jax.serve.service import Service

    service = Service(present(trained, workdir, category), common)
    try:
        stack.enter_context(holding(workdir, category))
        return Entry(service, Learning(service, trained, workdir, category))
    except OSError as error:
        if not is_refused(error):
            raise
        said = f"nothing can be corrected, since {workdir} cannot be written to"
        console.note(said)
        return Entry(service, said)


def _of_exported(
    config: ml_collections.ConfigDict, folders: dict[str, Path], common: "Common"
) -> "Categories":
    from diffad_jax.serve import model
    from diffad_jax.serve.categories import Categories, Entry
    from diffad_jax.serve.service import Service

    opened = exported_folder.open_all(config, folders)
    entries = {
        category: Entry(Service(model.of_exported(*each), common), _OF_THE_GRAPH)
        for category, each in opened.items()
    }
    told = exported_folder.products(config, opened) if len(opened) > 1 else None
    return Categories(common, entries, _tell(told) if told else None)


def _tell(told: products.Products) -> "Tell":
    def tell(photos: np.ndarray, size: int) -> list[str]:
        return [told.nearest(row) for row in told.distances(photos, size)]

    return tell
