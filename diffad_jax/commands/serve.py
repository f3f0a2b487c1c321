"""The inspection page and its HTTP API, of one detector."""

import contextlib
import os
from pathlib import Path

import ml_collections

from diffad_jax.data.layouts import DataError
from diffad_jax.errors import is_refused
from diffad_jax.inference.calibration import load_or_choose
from diffad_jax.inference.detector import Detector
from diffad_jax.runtime import console


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
      workdir: holds the category's weights and threshold, and gets the corrections.
      host: an address of this machine; others than its own (127.0.0.1) need a token.
      port: 0 takes a free one.
      watch: a folder whose new photos are inspected.
      webhook: an address that is told of each anomalous photo.

    Raises:
      ConfigError: the webhook's address, its secret or the token cannot be used; the port is taken.
      layouts.DataError: several categories are configured; ``watch`` is no folder.
      lock.LockedError: another server keeps corrections of the category.
    """
    # What they need comes with [serve].
    from diffad_jax.serve import server
    from diffad_jax.serve.api import Api
    from diffad_jax.serve.learning import Learning, holding
    from diffad_jax.serve.limits import Limits
    from diffad_jax.serve.service import Service
    from diffad_jax.serve.watch import Watch
    from diffad_jax.serve.webhook import SECRET, Webhook

    if len(config.categories) != 1:
        raise DataError(
            "serve needs one category, to know whose detector to use: "
            f"--config.categories={config.categories[0]}"
        )
    category = config.categories[0]
    detector = Detector.from_workdir(config, workdir, category)
    calibration = load_or_choose(config, workdir, category, detector)
    if calibration.threshold is None:
        console.note(f"no verdicts: {calibration.why_no_threshold}")
    service = Service(detector, calibration, Limits())
    with contextlib.ExitStack() as stack:
        if webhook:
            told = Webhook(webhook, os.environ.get(SECRET, ""), service.counts)
            stack.callback(told.close)
            service.on_anomalous = told.send
        learning = None
        try:
            stack.enter_context(holding(workdir, category))
            learning = Learning(service, workdir, category)
        except OSError as error:
            if not is_refused(error):
                raise
            console.note(f"nothing can be corrected, since {workdir} cannot be written to")
        watched = Watch(service, watch.expanduser()) if watch else None
        console.note("compiling for batches of one photo to the largest")
        service.warm_up()
        server.run(Api(service, learning, watched), host, port)
