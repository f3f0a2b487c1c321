"""The paper's ablations, and some of ours, at the size of any config: one table.

    python -m benchmarks.ablations --config=configs/mvtec_small.py:bottle --workdir=runs/ablations \
      --config.data.root=data/mvtec --config.data.textures=data/dtd

Every variant has the seed, the budget and the examples of ``full``, the config as it is, and shares
with it, or with another variant, the stages that it does not change. It goes on where it stopped.
``--only=A,B`` takes these variants alone.
"""

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from benchmarks import last_line
from diffad_jax.commands import train
from diffad_jax.commands.evaluate import evaluate, load_inception, measure
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.diffad import STAGES, brightness, method, windows
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.methods.diffad.reconstruct import Reconstruction, decode, encode, reconstruct
from diffad_jax.methods.registry import check_config
from diffad_jax.types import Prediction, to_float

_SEVERAL = 5  # reconstructions of a photo
_STEPS = (2, 3, 5, 10, 50)  # of a reconstruction, instead of one
_FIGURES = ("image_auroc", "pixel_auroc", "pixel_ap", "pixel_pro", "direct_copy_masked_psnr",
            "direct_copy_frame_psnr")  # fmt: skip


class Variant(NamedTuple):
    shared: int  # it has so many of the stages in common with ``base``
    changes: dict[str, Any]  # to the config of ``base``
    compare_to: str = ""  # what the segmenter compares the photo to instead, see ``replacement``
    base: str = "full"


_ALL = {"diffusion.trained_timesteps": (0, 1000)}
VARIANTS = {
    "full": Variant(0, {}),
    "all timesteps": Variant(1, _ALL),
    "all condition noise": Variant(1, {"diffusion.condition_timesteps": (0, 1000)}),
    "forward and reverse": Variant(1, _ALL | {"diffusion.condition_noise": "hidden"}),
    "clean condition": Variant(1, {"diffusion.condition_noise": "none"}),
    "shared timestep": Variant(1, _ALL | {"diffusion.condition_noise": "shared"}),
    "noisy at test too": Variant(
        2,
        {
            "reconstruction.condition": "noisy",
            "reconstruction.condition_timesteps": (100, 120),
        },
    ),
    "no third channel": Variant(2, {"reconstruction.interpolation": ()}),
    "autoencoder's channel": Variant(2, {"reconstruction.interpolation": (1.0,)}),
    "three lambdas": Variant(2, {"reconstruction.interpolation": (0.25, 0.5, 0.75)}),
    **{
        f"{n} steps in training": Variant(
            2, {"reconstruction.training_steps": n}, base="all timesteps"
        )
        for n in _STEPS
    },
    **{
        f"{n} steps at test": Variant(3, {"reconstruction.test_steps": n}, base="all timesteps")
        for n in _STEPS
    },
    **{
        f"{n} steps in both": Variant(
            3, {"reconstruction.test_steps": n}, base=f"{n} steps in training"
        )
        for n in _STEPS
    },
    f"mean of {_SEVERAL}": Variant(3, {}, "mean"),
    f"nearest of {_SEVERAL}": Variant(3, {}, "nearest"),
    "autoencoder alone": Variant(3, {}, "copy"),
}


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    config, workdir = flags.FLAGS.config, Path(flags.FLAGS.workdir)
    check_config(config)
    (category,) = config.categories
    names = flags.FLAGS.only or list(VARIANTS)
    if unknown := set(names) - set(VARIANTS):
        raise app.UsageError(f"no variant {unknown.pop()!r}: choose of {', '.join(VARIANTS)}")
    table = {}
    for name in dict.fromkeys(n for wanted in names for n in lineage(wanted)):
        table[name] = run(config, workdir, category, name)
    shown = names_of_metrics(config)
    print(f"\n{category:<24}" + "".join(f"{f:>24}" for f in shown))
    for name, found in table.items():
        print(f"{name:<24}" + "".join(f"{_cell(found[f]):>24}" for f in shown))
    last_line.finish({"category": category, "metrics": table})


def lineage(name: str) -> list[str]:
    """The variants that ``name`` shares stages with, the first one first, and itself."""
    return ["full"] if name == "full" else [*lineage(VARIANTS[name].base), name]


def _cell(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def run(
    config: ml_collections.ConfigDict, workdir: Path, category: str, name: str
) -> dict[str, float | None]:
    """Trains what ``name`` changes, unless it is there, and evaluates."""
    if VARIANTS[name].compare_to:
        trained = Detector.from_workdir(config, workdir / "full", category)
        return metrics_of(_Replaced(trained, VARIANTS[name].compare_to), workdir / "full", category)
    here = workdir / name.replace(" ", "_")
    result = here / "metrics.json"
    if not result.exists():
        base = workdir / VARIANTS[name].base.replace(" ", "_")
        share(base / category, here / category, VARIANTS[name].shared)
        train.train_category(changed(config, name), here / category, category, None)
        evaluate(changed(config, name), here)
    found = json.loads(result.read_text())["categories"][category]
    return {f: found[f] for f in names_of_metrics(config)}


class _Replaced(Detector):
    """Judges photos by something else than one reconstruction."""

    def __init__(self, trained: Detector, compare_to: str):
        super().__init__(trained.config, trained.weights)
        self._predict = jax.jit(
            functools.partial(_predict, config=self.config, compare_to=compare_to)
        )


def _predict(weights: dict, pixels: jax.Array, *, config, compare_to: str) -> Prediction:
    photo = brightness.exposed(weights, to_float(pixels), config=config)
    replaced = replacement(weights, windows.cut(photo, config=config), compare_to, config=config)
    return method.judge(weights, photo, replaced, config=config)


def replacement(weights: dict, photo: Exposed, how: str, *, config) -> Reconstruction:
    """``copy`` is what the autoencoder makes of the photo; else several reconstructions in one:
    ``mean`` of each pixel, or ``nearest``, which takes it from the one that is most like the photo
    there (the smallest of the differences).
    """
    if how == "copy":
        latent = encode(weights, photo, config=config)
        return decode(weights, latent, latent, photo.gain, config=config)
    steps = config.reconstruction.test_steps
    drawn = jax.lax.map(
        lambda key: reconstruct(weights, photo, key, config=config, num_steps=steps),
        jax.random.split(jax.random.key(config.seed), _SEVERAL),
    )
    if how == "mean":
        return jax.tree.map(lambda x: jnp.mean(x, 0), drawn)
    distance = jnp.sum((drawn.reconstruction - photo.image[None]) ** 2, -1, keepdims=True)
    best = jnp.argmin(distance, 0)[None]  # [1, b, h, w, 1]
    return Reconstruction(
        jnp.take_along_axis(drawn.reconstruction, best, 0)[0],
        jnp.take_along_axis(drawn.interpolated, best[:, :, None], 0)[0],
    )


def names_of_metrics(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    c = config.evaluation
    return (*_FIGURES, f"fid_{c.fid_dimension}") if c.inception_weights else _FIGURES


def metrics_of(detector: Detector, workdir: Path, category: str) -> dict[str, float | None]:
    config = detector.config
    _, measured = measure(config, workdir, category, detector, load_inception(config))
    return {f: measured.metrics[f].value for f in names_of_metrics(config)}


def changed(config: ml_collections.ConfigDict, name: str) -> ml_collections.ConfigDict:
    """The config of a variant."""
    if name == "full":
        return config
    config = changed(config, VARIANTS[name].base).copy_and_resolve_references()
    for field, value in VARIANTS[name].changes.items():
        section, _, key = field.rpartition(".")
        config[section][key] = value
    return config


def share(base: Path, here: Path, count: int) -> None:
    """Links the first stages of one category's folder into another."""
    here.mkdir(parents=True, exist_ok=True)
    for stage in STAGES[:count]:
        link = here / stage.name
        if not link.exists():
            link.symlink_to(Path("../..") / base.parent.name / base.name / stage.name)


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "FILE:CATEGORY, as for training.")
    flags.DEFINE_string("workdir", None, "Where everything goes.")
    flags.DEFINE_list("only", None, "These variants instead of all.")
    flags.mark_flags_as_required(["config", "workdir"])
    last_line.run(main)
