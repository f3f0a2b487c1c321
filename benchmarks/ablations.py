"""The paper's ablations, and some of ours, at the size of any config: one table.

    python -m benchmarks.ablations --config=configs/mvtec_small.py:bottle --workdir=runs/ablations \
      --config.data.root=data/mvtec --config.data.textures=data/dtd

Every variant has the seed, the budget and the examples of ``full``, and shares with it the stages
that it does not change. It goes on where it stopped. ``--only=A,B``
takes these variants alone.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from absl import app, flags
from ml_collections import config_flags

from benchmarks.last_line import finish
from diffad_jax import workflow
from diffad_jax.evaluate import evaluate

_CONFIG = config_flags.DEFINE_config_file("config", None, "FILE:CATEGORY, as for training.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes.")
_ONLY = flags.DEFINE_list("only", None, "These variants instead of all.")
_FIGURES = ("image_auroc", "pixel_auroc", "pixel_ap", "pro", "direct_copy_frame_psnr")


class Variant(NamedTuple):
    shared: int  # it has so many of the stages in common with ``full``
    changes: dict[str, Any]


VARIANTS = {
    "full": Variant(0, {}),
    "forward and reverse": Variant(1, {"diffusion.condition_noise": "hidden"}),
    "clean condition": Variant(1, {"diffusion.condition_noise": "none"}),
    "shared timestep": Variant(1, {"diffusion.condition_noise": "shared"}),
    "noisy at test too": Variant(2, {"reconstruction.condition": "noisy"}),
    "no third channel": Variant(2, {"reconstruction.interpolation": ()}),
    "autoencoder's channel": Variant(2, {"reconstruction.interpolation": (1.0,)}),
    "three lambdas": Variant(2, {"reconstruction.interpolation": (0.25, 0.5, 0.75)}),
    "1 step in training": Variant(2, {"reconstruction.training_steps": 1}),
    "5 steps in training": Variant(2, {"reconstruction.training_steps": 5}),
} | {
    f"{n} steps at test": Variant(3, {"reconstruction.test_steps": n}) for n in (1, 3, 5, 10, 50)
}  # fmt: skip


def main(argv: list[str]) -> None:
    del argv
    config, workdir = _CONFIG.value, Path(_WORKDIR.value)
    (category,) = config.categories
    names = _ONLY.value or list(VARIANTS)
    if unknown := set(names) - set(VARIANTS):
        raise app.UsageError(f"no variant {unknown.pop()!r}: choose of {', '.join(VARIANTS)}")
    figures = {}
    for name in dict.fromkeys(["full", *names]):
        figures[name] = run(config, workdir, category, name)
        print(f"{name:<24}" + "".join(f"{figures[name][f]:>10.4f}" for f in _FIGURES), flush=True)
    print(f"\n{category:<24}" + "".join(f"{f[:9]:>10}" for f in _FIGURES))
    for name, found in figures.items():
        print(f"{name:<24}" + "".join(f"{found[f]:>10.4f}" for f in _FIGURES))
    finish({"category": category, "figures": figures})


def run(
    config: ml_collections.ConfigDict, workdir: Path, category: str, name: str
) -> dict[str, float]:
    """Trains what ``name`` changes, unless it is there, and evaluates."""
    changed = config.copy_and_resolve_references()
    for field, value in VARIANTS[name].changes.items():
        section, _, key = field.rpartition(".")
        changed[section][key] = value
    here = workdir / name.replace(" ", "_")
    result = here / "metrics.json"
    if not result.exists():
        _share(workdir / "full" / category, here / category, VARIANTS[name].shared)
        workflow.train_category(changed, here / category, category, None)
        evaluate(changed, here)
    found = json.loads(result.read_text())["categories"][category]
    return {f: found[f] for f in _FIGURES}


def _share(full: Path, here: Path, count: int) -> None:
    here.mkdir(parents=True, exist_ok=True)
    for stage in ("autoencoder", "denoiser", "segmenter")[:count]:
        if not (here / stage).exists():
            (here / stage).symlink_to(Path("../..") / full.parent.name / full.name / stage)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
