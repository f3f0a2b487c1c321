"""The inspection page and its HTTP API, of one detector."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import ml_collections

from diffad_jax.config import stored
from diffad_jax.data.layouts import DataError
from diffad_jax.errors import ConfigError, is_refused
from diffad_jax.export import artifact
from diffad_jax.inference.detector import Detector
from diffad_jax.runtime import console

if TYPE_CHECKING:
    from diffad_jax.serve.learning import Learning
    from diffad_jax.serve.service import Service

_OF_THE_GRAPH = (
    "an exported folder is served, which holds no photos to choose a threshold by: serve the work "
    "directory that it came from to correct and recalibrate"
)
_FREE = ("evaluation.batch_size", "data.photo_mib")  # of a graph's config


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
      workdir: holds the category's weights and threshold, and gets the corrections; or an exported
        folder, which nothing is written to.
      host: an address of this machine; others than its own (127.0.0.1) need a token.
      port: 0 takes a free one.
      watch: a folder whose new photos are inspected.
      webhook: an address that gets a notice of each anomalous photo.

    Raises:
      ConfigError: the webhook's address, its secret or the token cannot be used; the port is taken;
        the exported folder is damaged, or the config asks for another graph.
      layouts.DataError: several categories are configured; ``watch`` is no folder.
      lock.LockedError: another server keeps corrections of the category.
    """
    # What they need comes with [serve].
    from diffad_jax.serve import server
    from diffad_jax.serve.api import Api
    from diffad_jax.serve.watch import Watch
    from diffad_jax.serve.webhook import SECRET, Webhook

    if len(config.categories) != 1:
        raise DataError(
            "serve needs one category, to know whose detector to use: "
            f"--config.categories={config.categories[0]}"
        )
    with contextlib.ExitStack() as stack:
        if (workdir / artifact.CARD).exists():
            service, learning = _of_exported(config, workdir), _OF_THE_GRAPH
        else:
            service, learning = _of_workdir(config, workdir, stack)
        if service.model.calibration.threshold is None:
            console.note(f"no verdicts: {service.model.calibration.why_no_threshold}")
        if webhook:
            told = Webhook(webhook, os.environ.get(SECRET, ""), service.counts)
            stack.callback(told.close)
            service.on_anomalous = told.send
        watched = Watch(service, watch.expanduser()) if watch else None
        console.note("compiling for batches of one photo to the largest")
        service.warm_up()
        server.run(Api(service, learning, watched), host, port)


def _of_workdir(
    config: ml_collections.ConfigDict, workdir: Path, stack: contextlib.ExitStack
) -> "tuple[Service, Learning | str]":
    from diffad_jax.serve.learning import Learning, holding, present
    from diffad_jax.serve.limits import Limits
    from diffad_jax.serve.service import Service

    category = config.categories[0]
    trained = Detector.as_trained(config, workdir, category)
    service = Service(present(trained, workdir, category), Limits())
    try:
        stack.enter_context(holding(workdir, category))
        return service, Learning(service, trained, workdir, category)
    except OSError as error:
        if not is_refused(error):
            raise
        said = f"nothing can be corrected, since {workdir} cannot be written to"
        console.note(said)
        return service, said


def _of_exported(config: ml_collections.ConfigDict, folder: Path) -> "Service":
    from diffad_jax.serve import model
    from diffad_jax.serve.limits import Limits
    from diffad_jax.serve.service import Service

    inside = stored.flat(stored.of_card(folder / artifact.CARD))
    for name, value in stored.flat(config).items():
        if name not in _FREE and inside.get(name) != value:
            raise ConfigError(
                f"config.{name} = {value!r}, but the graph in {folder} was exported with "
                f"{inside.get(name)!r}: leave it and --config away"
            )
    found = model.of_exported(folder, config.evaluation.batch_size, config.data.photo_mib)
    return Service(found, Limits())
