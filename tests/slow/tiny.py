"""A training of seconds on a CPU, run as its user runs it: what drills and comparisons start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import orbax.checkpoint as ocp

from benchmarks import pictures
from diffad_jax.methods.diffad import STAGES
from diffad_jax.training import fingerprint

ROOT = Path(__file__).parents[2]
CATEGORY = "tiles"
NAMES = tuple(stage.name for stage in STAGES)
SETTINGS = {
    "image_size": 16,
    "autoencoder.channels": 8,
    "autoencoder.patch_size": 4,
    "autoencoder.latent_channels": 8,
    "diffusion.channels": 8,
    "diffusion.head_channels": 8,
    "diffusion.multipliers": "(1,)",
    "diffusion.attention_downsampling": "()",
    "segmentation.channels": 4,
    "segmentation.patch_size": 2,
    "segmentation.multipliers": "(1,)",
    "segmentation.features": "none",
    "memory.patches": 0,
    "evaluation.batch_size": 4,
    "evaluation.smoothing": 3,
    "training.log_every": 1,
    "training.validation_examples": 2,
}


class Tiny:
    """Photos, a recording of them and a compilation cache in ``folder``.

    Args:
      folder: is made.
      steps: of each stage.
      batch_size: of each stage.
      checkpoint_every: steps.
      settings: of the config, over ``SETTINGS``.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        batch_size: int,
        checkpoint_every: int,
        settings: dict | None = None,
    ):
        self.folder = folder
        self.steps = steps
        self.recording = folder / "examples.zip"
        stages = ("autoencoder", "diffusion", "segmentation")
        settings = SETTINGS | (settings or {}) | {"training.checkpoint_every": checkpoint_every}
        settings |= {f"{s}.steps": steps for s in stages}
        settings |= {f"{s}.batch_size": batch_size for s in stages}
        self._flags = [f"--config.{k}={v}" for k, v in settings.items()]
        for i, (kind, count) in enumerate(
            {"train/good": 10, "test/good": 2, "test/odd": 2}.items()
        ):
            pictures.write_folder(folder / "photos" / CATEGORY / kind, count, 20, ".png", seed=i)

    def start(self, log: Path, *flags: object, live: bool = False, devices: int = 1):
        """The program with these flags; what it prints goes to ``log``."""
        command = [
            sys.executable,
            "-m",
            "diffad_jax.main",
            f"--config=configs/folder.py:{CATEGORY}",
        ]
        command += [f"--config.data.root={self.folder / 'photos'}", *self._flags]
        command += [] if live else [f"--config.data.recorded={self.recording}"]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "JAX_COMPILATION_CACHE_DIR": os.environ.get(
                "JAX_COMPILATION_CACHE_DIR", str(self.folder / "compiled")
            ),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_FLAGS": "--xla_backend_optimization_level=0 "
            f"--xla_force_host_platform_device_count={devices}",
        }
        with log.open("w") as file:
            return subprocess.Popen(
                [*command, *map(str, flags)],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def run(self, log: Path, *flags: object, **how: object) -> int:
        """The exit status."""
        return self.start(log, *flags, **how).wait(timeout=3000)

    def record(self, log: Path, num_examples: int = 32) -> int:
        output = (f"--output={self.recording}", "--overwrite")
        flags = ("--mode=record", *output, f"--num_examples={num_examples}")
        return self.run(log, *flags, live=True)


def final_state(workdir: Path, steps: int) -> dict:
    """All that a finished training leaves: digests of weights and full states, and its metrics."""
    found: dict = {}
    for name in NAMES:
        for item in ("state", "weights"):
            folder = workdir / CATEGORY / name / str(steps) / item
            with ocp.StandardCheckpointer() as checkpointer:
                tree = checkpointer.restore(folder.absolute())
            found[f"{name} {item}"] = fingerprint.weights_hash(tree)
    metrics = json.loads((workdir / CATEGORY / "stages.json").read_text())
    spent = ("seconds_this_run", "peak_memory_mib")
    for name in NAMES:
        found[f"{name} metrics"] = {k: v for k, v in metrics[name].items() if k not in spent}
    found["threshold"] = json.loads((workdir / CATEGORY / "threshold.json").read_text())
    return found


def losses(workdir: Path) -> dict[str, list[float]]:
    """Of each stage, step by step."""
    lines = (workdir / CATEGORY / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return {n: [e["loss"] for e in entries if e["stage"] == f"{CATEGORY}/{n}"] for n in NAMES}
