"""A service of a detector that needs no training, and a client that talks to it in memory."""

import contextlib
import dataclasses
import io
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from configs import mvtec
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.contract import Method, Stage, Telling
from diffad_jax.methods.registry import METHODS
from diffad_jax.serve.api import Api
from diffad_jax.serve.categories import Categories, Entry, Tell
from diffad_jax.serve.learning import Learning, present
from diffad_jax.serve.limits import Limits
from diffad_jax.serve.service import Common, Service
from diffad_jax.serve.watch import Watch
from diffad_jax.types import Prediction, to_float

LOCAL = "http://127.0.0.1:8000"


def _predict(weights, images, *, seed, config):
    """A photo's map is its red: bright photos are anomalous."""
    del seed, config
    red = weights["bright"]["scale"] * to_float(images)[..., 0]
    return Prediction(score=red.max((1, 2)), anomaly_map=red)


_METHOD = Method(
    name="bright",
    sections=(),
    stages=lambda config: (
        Stage(name="bright", sections=(), fit=lambda *_: {"scale": np.float32(1)}),
    ),
    predict=_predict,
    score_map=lambda anomaly_map, config: anomaly_map,
    reconstructs=False,
    needs_synthesis=False,
    describe=lambda config: {"score": "the brightest red"},
)


def png(red: float, size: tuple[int, int] = (20, 20), seed: int = 0) -> bytes:
    """A photo [h, w] whose score is ``red``, nearly; noise in the other channels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    pixels[..., 0] = round(255 * red)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def bright_config(monkeypatch: pytest.MonkeyPatch, photos: Path) -> ml_collections.ConfigDict:
    """Of a new category ``lamps``: 20 good photos of red 0.2 … 0.4; half are held out."""
    monkeypatch.setitem(METHODS, "bright", _METHOD)
    config = mvtec.of_method("bright", "lamps")
    config.image_size, config.data.root, config.evaluation.batch_size = 16, str(photos), 4
    config.data.validation_share = 0.5
    folder = photos / "lamps" / "train" / "good"
    folder.mkdir(parents=True)
    for i in range(20):
        (folder / f"{i:02}.png").write_bytes(png(0.2 + 0.01 * i, seed=i))
    return config


def let_the_stage_extend(monkeypatch: pytest.MonkeyPatch) -> None:
    """n photos beside the m that it was fitted on make the scale m / (m + n) of what it was."""

    def extend(config, fitted, num_seen, photos, earlier_weights):
        total = num_seen + sum(map(len, photos))
        return {"scale": np.float32(fitted["scale"] * num_seen / total)}

    (stage,) = _METHOD.stages(None)
    stages = (dataclasses.replace(stage, extend=extend),)
    extending = dataclasses.replace(_METHOD, stages=lambda config: stages)
    monkeypatch.setitem(METHODS, "bright", extending)


def let_them_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Categories are told apart by how red their normal photos are."""

    def fit(config, photos, earlier_weights):
        red = np.mean([batch[..., 0].mean() for batch in photos]) / 255
        return {"scale": np.float32(1), "red": np.float32(red)}

    def redness(network, images, *, config):
        return to_float(images)[..., 0].mean((1, 2))

    def distance(weights, red, *, config):
        return abs(red - weights["bright"]["red"])

    (stage,) = _METHOD.stages(None)
    stages = (dataclasses.replace(stage, fit=fit),)
    told = Telling(lambda weights: {}, redness, distance)
    method = dataclasses.replace(_METHOD, stages=lambda config: stages, tell=lambda config: told)
    monkeypatch.setitem(METHODS, "bright", method)


def lamps_detector(config: ml_collections.ConfigDict, scale: float = 1.0) -> Detector:
    """As trained; it multiplies by ``scale``."""
    return Detector(config, {"bright": {"scale": np.float32(scale)}})


def make_api(
    config: ml_collections.ConfigDict,
    workdir: Path,
    limits: Limits | None = None,
    watched: Path | None = None,
    scale: float = 1.0,
) -> tuple[Api, Service]:
    """Of a detector that multiplies by ``scale``."""
    detector = lamps_detector(config, scale)
    common = Common(limits or Limits())
    service = Service(present(detector, workdir, "lamps"), common)
    entry = Entry(service, Learning(service, detector, workdir, "lamps"))
    categories = Categories(common, {"lamps": entry})
    watch = Watch(categories, watched, every=0.05) if watched else None
    return Api(categories, watch), service


def by_brightness(photos: np.ndarray, size: int) -> list[str]:
    """Lamps are dark, coins are bright, and grey is nothing."""
    reds = photos[..., 0].mean((1, 2))
    return ["lamps" if red < 110 else "coins" if red > 150 else "" for red in reds]


def two_categories(monkeypatch: pytest.MonkeyPatch, folder: Path, tell: Tell | None) -> Categories:
    """Lamps and coins, whose photos are alike; a score of coins is a tenth."""
    config = bright_config(monkeypatch, folder / "photos")
    shutil.copytree(folder / "photos/lamps", folder / "photos/coins")
    common, entries = Common(Limits()), {}
    for name, scale in (("lamps", 1.0), ("coins", 0.1)):
        own = config.copy_and_resolve_references()
        own.categories = (name,)
        detector = lamps_detector(own, scale)
        service = Service(present(detector, folder / "work", name), common)
        entries[name] = Entry(service, Learning(service, detector, folder / "work", name))
    return Categories(common, entries, tell)


@contextlib.contextmanager
def serving(
    config: ml_collections.ConfigDict, workdir: Path, *, token: str = "", **how: Any
) -> Iterator[tuple[TestClient, Service]]:
    """The client and the service; ``how`` as for ``make_api``."""
    api, service = make_api(config, workdir, **how)
    with TestClient(api.app(token), LOCAL) as client:
        yield client, service


@contextlib.contextmanager
def listening(api: Api, token: str = "") -> Iterator[str]:
    """The address at which the API really listens."""
    config = uvicorn.Config(api.app(token), port=0, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    with config.bind_socket() as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started)  # until then, a browser is refused
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


def wait_for(happened: Callable[[], Any]) -> Any:
    """What ``happened`` gives once it is true; an error after half a minute."""
    until = time.monotonic() + 30
    while not (found := happened()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found
