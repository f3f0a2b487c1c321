"""What a config's training and use cost; nothing is computed.

    python -m benchmarks.flops --config=configs/mvtec.py

Counted are matrix products and convolutions (``diffad_jax.runtime.flops``), a multiply-add as
two, of one training step at the config's batch size. The last line is one JSON object.
"""

import argparse
import functools
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from diffad_jax.errors import UserError
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.diffad import brightness, method, networks, windows
from diffad_jax.methods.diffad.reconstruct import reconstruct
from diffad_jax.methods.diffad.segment import segment
from diffad_jax.methods.train_state import TrainState
from diffad_jax.runtime import flops
from diffad_jax.types import height_width


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/mvtec.py")
    parser.add_argument("--photos", type=int, default=209, help="normal photos of the category")
    args = parser.parse_args()
    try:
        config = ml_collections.FrozenConfigDict(load(args.config))
    except UserError as error:
        parser.error(str(error))
    report = count(config, args.photos)
    print(f"{'':24}{'GFLOP an image':>16}{'PFLOP in all':>14}")
    for name, metrics in report.items():
        total = metrics.get("pflop_in_all")
        shown = f"{total:14.3f}" if total is not None else ""
        print(f"{name:24}{metrics['gflop_an_image']:16.1f}{shown}")
    print(json.dumps({"config": args.config} | report))


def count(config: ml_collections.FrozenConfigDict, num_photos: int) -> dict[str, dict[str, float]]:
    """GFLOP an image of each stage's training step and of the detector; PFLOP of each stage.

    Stage 1 is counted with the perceptual network that the config names, whether or not there is a
    file for it, and with its discriminator if that ever starts.
    """
    config = _without_idle_discriminator(config, num_photos)
    report, weights = {}, {}
    for stage, state, frozen, batch in shapes(config):
        c = stage.settings(config)
        step = functools.partial(stage.train_step, config=config)
        total = flops.count(step, state, frozen, batch)
        report[stage.name] = {
            "gflop_an_image": total / c.batch_size / 1e9,
            "pflop_in_all": total * _steps(c, num_photos) / 1e15,
        }
        weights = {**frozen, stage.name: jax.eval_shape(stage.weights, state)}
    image = jax.ShapeDtypeStruct((1, *height_width(config.image_size), 3), jnp.float32)
    total = flops.count(_detect(config), weights, image)
    report["detector"] = {"gflop_an_image": total / 1e9}
    return report


def shapes(
    config: ml_collections.FrozenConfigDict,
) -> Iterator[tuple[Stage, TrainState, dict, dict]]:
    """(stage, its state, what it stands on, its batch) of each stage with steps, as shapes."""
    frozen, key = _perceptual(config), jax.random.key(0)
    for stage in method.stages(config):
        if stage.fit:
            frozen[stage.name] = stage.fitted_shapes(config)
            continue
        batch = _batch(config, stage.settings(config).batch_size)
        state = jax.eval_shape(functools.partial(stage.init_state, config), key, frozen, batch)
        yield stage, state, frozen, batch
        frozen = {name: value for name, value in frozen.items() if name != "perceptual"}
        frozen[stage.name] = jax.eval_shape(stage.weights, state)


def _steps(stage: ml_collections.FrozenConfigDict, num_photos: int) -> float:
    return stage.steps or stage.epochs * num_photos / stage.batch_size


def _without_idle_discriminator(
    config: ml_collections.FrozenConfigDict, num_photos: int
) -> ml_collections.FrozenConfigDict:
    """The config without a discriminator that training would end before."""
    c = config.autoencoder
    if _steps(c, num_photos) / c.accumulation > c.adversarial_start:
        return config
    config = ml_collections.ConfigDict(config)
    config.autoencoder.adversarial_weight = 0.0
    return ml_collections.FrozenConfigDict(config)


def _perceptual(config: ml_collections.FrozenConfigDict) -> dict:
    if config.autoencoder.perceptual == "none":
        return {}
    image = jax.ShapeDtypeStruct((1, *height_width(config.image_size), 3), jnp.float32)
    shapes = jax.eval_shape(networks.perceptual(config).init, jax.random.key(0), image, image)
    return {"perceptual": shapes["params"]}


def _detect(config: ml_collections.FrozenConfigDict):
    def detect(weights, image):
        steps = config.reconstruction.test_steps
        photo = brightness.exposed(weights, image, config=config)
        parts = windows.cut(photo, config=config)
        repaired = reconstruct(weights, parts, jax.random.key(0), config=config, num_steps=steps)
        return segment(weights, repaired, parts, config=config)

    return detect


def _batch(config: ml_collections.FrozenConfigDict, batch_size: int) -> dict:
    shape = (batch_size, *height_width(config.image_size))
    channels = {"image": 3, "augmented_image": 3, "anomaly_mask": 1}
    return {k: jax.ShapeDtypeStruct((*shape, n), np.uint8) for k, n in channels.items()}


def load(name: str) -> ml_collections.ConfigDict:
    """The config of FILE or FILE:CATEGORY. Raises UserError if it is not one of DiffAD's."""
    file, _, category = name.partition(":")
    if not file.endswith(".py") or not Path(file).is_file():
        raise UserError(f"--config={name}: there is no file {file}; it must be FILE.py[:CATEGORY]")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(category or None)
    if config.method != "diffad":
        raise UserError(f"--config={name} is of {config.method}: it must be one of DiffAD's")
    return config


if __name__ == "__main__":
    main()
