"""Strict settings for every test, and a tiny config that trains in seconds.

Most of the suite's time is XLA's: all workers and their subprocesses share what is compiled, and
what one worker has made with ``shared`` is there for all.
"""

import contextlib
import csv
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Tests run each program for moments: quick compilation matters, quick code does not. The emitters
# of fused loops take a third of the time that XLA compiles a training step.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
if "PYTEST_XDIST_WORKER" not in os.environ:  # else the one cache of all workers is set already
    _CACHE = tempfile.TemporaryDirectory()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE.name)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

from tests import shapes

shapes.check_annotations()  # before what they annotate is imported

import fsspec
import jax
import ml_collections
import numpy as np
import pytest
from etils.epath import backend
from PIL import Image, ImageOps

from configs import mvtec_small
from diffad_jax.commands.predict import How, predict_photos
from diffad_jax.commands.train import train_and_evaluate
from diffad_jax.convert import torch_file
from diffad_jax.convert.backbone import torch_names
from diffad_jax.models.resnet import resnet18
from diffad_jax.training.checkpoint import Checkpoints
from diffad_jax.types import Prediction
from tests.bucket import Bucket

jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).parents[1]
# As few operations as show every part at work, since each is compiled.
TINY = {
    "image_size": 16,
    "data.validation_share": 0.6,  # of ten photos, enough for a threshold
    "autoencoder.exposure": 0.0,
    "autoencoder.channels": 8,
    "autoencoder.patch_size": 4,
    "autoencoder.latent_channels": 8,
    "autoencoder.steps": 4,
    "autoencoder.batch_size": 8,
    "autoencoder.num_res_blocks": 1,
    "diffusion.channels": 8,
    "diffusion.head_channels": 8,
    "diffusion.multipliers": (1,),
    "diffusion.num_res_blocks": 1,
    "diffusion.attention_downsampling": (1,),
    "diffusion.trained_timesteps": (0, 1000),
    "diffusion.steps": 4,
    "diffusion.batch_size": 8,
    "reconstruction.training_steps": 2,
    "reconstruction.test_steps": 2,
    "segmentation.channels": 4,
    "segmentation.patch_size": 2,
    "segmentation.multipliers": (1,),
    "segmentation.steps": 4,
    "segmentation.batch_size": 8,
    "segmentation.features": "none",
    "memory.patches": 0,
    "evaluation.batch_size": 4,
    "evaluation.smoothing": 3,
    "training.log_every": 1,
    "training.checkpoint_every": 2,
    "training.validation_examples": 2,
}


# Rooms whose tests take longest: begun first, so that at the end no worker is alone with them.
LONGEST = ("training", "export", "runtime", "methods", "convert", "commands")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.relative_to(ROOT).parts[1] not in LONGEST)


class Trained(NamedTuple):
    """A finished training as its user ran it, evaluated; read it, change a copy."""

    workdir: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """(name, make) -> a folder for all workers, which ``make`` fills for the first who asks."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name: str, make: Callable[[Path], None]) -> Path:
        with (base / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not (base / f"{name}.made").exists():
                make(base / name)
                (base / f"{name}.made").touch()
        return base / name

    return get


@pytest.fixture(scope="session")
def photos(shared) -> str:
    """A root with the category ``tiles``: 10 normal photos, 3 + 3 test photos, masks."""
    return str(shared("photos", _draw_photos))


def _draw_photos(root: Path) -> None:
    rng = np.random.default_rng(0)

    def save(name: str, pixels: np.ndarray) -> None:
        path = root / "tiles" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    base = np.add.outer(np.arange(20), np.arange(20))[..., None] * np.array([4, 5, 6])

    def photo() -> np.ndarray:
        return np.clip(base + rng.integers(-9, 10, base.shape), 0, 255).astype(np.uint8)

    for i in range(10):
        save(f"train/good/{i:03d}.png", photo())
    for i in range(3):
        save(f"test/good/{i:03d}.png", photo())
        damaged, mask = photo(), np.zeros((20, 20), np.uint8)
        damaged[5:9, 3:12], mask[5:9, 3:12] = 255, 255
        save(f"test/scratch/{i:03d}.png", damaged)
        save(f"ground_truth/scratch/{i:03d}_mask.png", mask)


@pytest.fixture(scope="session")
def trained(shared, photos) -> Trained:
    """Of ``tiny_config``, trained once for all tests."""

    def train(folder: Path) -> None:
        command = [sys.executable, "-m", "diffad_jax.main", *tiny_flags_for(photos)]
        done = subprocess.run(
            [*command, f"--workdir={folder}"], cwd=ROOT, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr
        folder.with_suffix(".json").write_text(json.dumps([done.stdout, done.stderr]))

    workdir = shared("trained", train)
    return Trained(workdir, *json.loads(workdir.with_suffix(".json").read_text()))


@pytest.fixture
def trained_workdir(trained, tmp_path) -> Path:
    """A copy of what ``tiny_config`` trains, to go on from."""
    return Path(shutil.copytree(trained.workdir, tmp_path / "trained"))


@pytest.fixture
def dies_after_saving(monkeypatch) -> Callable:
    """``with dies_after_saving(matches)``: the training inside ends, as if killed, once it has
    saved the first checkpoint whose folder ``matches``."""
    save = Checkpoints.save

    @contextlib.contextmanager
    def during(matches: Callable[[Path], bool]) -> Iterator[None]:
        def save_and_die(checkpoints, step, *what, **how):
            save(checkpoints, step, *what, **how)
            if matches(checkpoints.directory):
                checkpoints.wait()
                raise KeyboardInterrupt

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Checkpoints, "save", save_and_die)
            yield

    return during


@pytest.fixture
def tiny_config(photos: str) -> ml_collections.ConfigDict:
    config = mvtec_small.get_config("tiles")
    for field, value in TINY.items():
        section, _, name = field.rpartition(".")
        (config[section] if section else config)[name] = value
    config.data.root = photos
    return config


@pytest.fixture(scope="session")
def several(shared, photos) -> str:
    """A root with ``tiles``; ``lamps`` are tiles upside down, ``coins`` are mirrored."""

    def draw(root: Path) -> None:
        shutil.copytree(f"{photos}/tiles", root / "tiles")
        for name, turned in (("lamps", ImageOps.flip), ("coins", ImageOps.mirror)):
            for file in (root / "tiles").rglob("*.png"):
                target = root / name / file.relative_to(root / "tiles")
                target.parent.mkdir(parents=True, exist_ok=True)
                with Image.open(file) as picture:
                    turned(picture).save(target)

    return str(shared("several", draw))


@pytest.fixture
def together(tiny_config, several) -> ml_collections.ConfigDict:
    """``tiles`` and ``lamps``, which share their networks."""
    tiny_config.categories, tiny_config.shared = ("tiles", "lamps"), True
    tiny_config.data.root = several
    tiny_config.data.proportions = "square"
    return tiny_config


@pytest.fixture
def together_trained(shared, together) -> Path:
    """The work directory of ``together``, trained once for all tests; read it, change a copy."""
    return shared("together", lambda folder: train_and_evaluate(together, folder, None))


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory) -> str:
    """ResNet-18 up to layer1, of noise, under torchvision's names."""
    rng, state = np.random.default_rng(0), {}
    shapes = {"conv1": (64, 3, 7, 7)} | {
        f"layer1_{i}_conv{j}": (64, 64, 3, 3) for i in (0, 1) for j in (1, 2)
    }
    for name, shape in shapes.items():
        conv, norm = torch_names(resnet18(("layer1",)), name)
        state[f"{conv}.weight"] = rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)
        state |= {f"{norm}.{part}": np.zeros(64) for part in ("bias", "running_mean")}
        state |= {f"{norm}.{part}": np.ones(64) for part in ("weight", "running_var")}
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch_file.write(path, {k: v.astype(np.float32) for k, v in state.items()}, bare=True)
    return str(path)


@pytest.fixture
def disk_calls(tmp_path, monkeypatch) -> list[tuple[str, ...]]:
    """What decides on what a power cut leaves, in its order: ("fsync", path), ("rename", from, to)
    and ("unlink", path)."""
    made: list[tuple[str, ...]] = []

    def record(name: str, kind: str) -> None:
        original = getattr(os, name)

        def recorded(path, *args, **how):
            shown = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else str(path)
            made.append((kind, shown, *map(str, args)))
            return original(path, *args, **how)

        monkeypatch.setattr(os, name, recorded)

    for name in ("fsync", "rename", "replace", "unlink"):
        record(name, "rename" if name == "replace" else name)
    return made


def tiny_flags_for(root: str) -> list[str]:
    """The same config as flags of ``python -m diffad_jax.main``."""
    flags = [f"--config.{k}={v}".replace(" ", "") for k, v in TINY.items()]
    return ["--config=configs/mvtec_small.py:tiles", f"--config.data.root={root}", *flags]


class Brightness:
    """Calls bright pixels anomalous; counts the windows that it saw."""

    taken = None
    trained = property(lambda self: self)

    def __init__(self, config):
        self._config, self.weights_hash, self.seen, self.batches = config, "first", [], []
        self.after_batch = lambda: None

    @property
    def config(self):
        return ml_collections.FrozenConfigDict(self._config)

    def predict_all(self, images, batch_size):
        assert images.dtype == np.uint8 and images.shape[1:] == (16, 16, 3)
        assert len(images) <= batch_size
        self.seen += [int(image.max()) for image in images]
        self.batches.append(len(images))
        self.after_batch()
        photos = np.float32(images) / 255
        maps = photos.mean(-1)
        return Prediction(maps.max((1, 2)), maps, photos * 0.5, photos[:, None])


@pytest.fixture
def line(tmp_path, tiny_config, monkeypatch):
    """A call of the mode; attributes: its folders, config and detector, ``save`` to add a photo."""
    tiny_config.normal_level.floor = 0.0  # else the method takes no tiles
    detector = Brightness(tiny_config)
    workdir = tmp_path / "work"
    (workdir / "tiles").mkdir(parents=True)
    monkeypatch.setattr(
        "diffad_jax.inference.detector.Detector.from_workdir", lambda *_: detector, raising=True
    )

    class Line:
        config, source, output = tiny_config, tmp_path / "in", tmp_path / "out"

        def __call__(self, source=None, **options):
            detector.seen.clear()
            detector.batches.clear()
            predict_photos(tiny_config, workdir, source or self.source, self.output, How(**options))

        def add(self, name, brightness=100, size=(20, 24)):
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((*size, 3), brightness, np.uint8)).save(path)
            return path

        def rows(self):
            lines = (self.output / "predictions.jsonl").read_text().splitlines()
            return {row["name"]: row for row in map(json.loads, lines)}

        def table(self):
            with (self.output / "predictions.csv").open(encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))

    Line.detector, Line.workdir = detector, workdir
    return Line()


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Grows by one name with each program that JAX compiles, or takes from its cache."""
    found: list[str] = []

    def note(event: str, _: float, **kwargs: str) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(kwargs.get("fun_name", ""))

    jax.monitoring.register_event_duration_secs_listener(note)
    yield found
    jax.monitoring.unregister_event_duration_listener(note)


@pytest.fixture
def bucket(photos):
    """gs://bucket/photos with the content of ``photos``."""
    for name in ("gcs", "gs"):
        fsspec.register_implementation(name, Bucket, clobber=True)
    backend.fsspec_backend._get_filesystem.cache_clear()
    storage = Bucket(finalize_on_close=True)
    for file in Path(photos).rglob("*.png"):
        storage.pipe(f"gs://bucket/photos/{file.relative_to(photos)}", file.read_bytes())
    yield storage
    storage.store.clear()
    storage.pseudo_dirs[:] = [""]
    backend.fsspec_backend._get_filesystem.cache_clear()
