"""Bytes a device of the published denoiser's training, copied on 8 devices or split over them: what
the compiler's memory analysis says of the training step. Nothing is run.
"""

import argparse
import os
import time
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=8"
)

import functools

import jax
import ml_collections
import numpy as np

from benchmarks.last_line import finish
from configs import mvtec
from diffad_jax.methods.diffad import autoencoder, latent_diffusion
from diffad_jax.runtime import sharding
from diffad_jax.types import height_width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--json", type=Path, help="also write the metrics there")
    args = parser.parse_args()
    metrics: dict = {"batch_size": args.batch_size, "devices": jax.device_count()}
    print(f"{'fsdp':>5} {'parameters':>12} {'optimiser':>12} {'average':>12} {'compiled':>12}  MiB")
    for fsdp in (1, 8):
        found = measure(fsdp, args.batch_size)
        metrics[f"fsdp_{fsdp}"] = found
        sizes = [found[k] for k in ("parameter_bytes", "optimizer_bytes", "ema_bytes",
                                    "compiled_state_bytes")]  # fmt: skip
        print(f"{fsdp:>5}" + "".join(f" {s / 2**20:>12.1f}" for s in sizes), flush=True)
    one, eight = metrics["fsdp_1"], metrics["fsdp_8"]
    metrics["ratio"] = eight["compiled_state_bytes"] / one["compiled_state_bytes"]
    finish(metrics, args.json)


def measure(fsdp: int, batch_size: int) -> dict:
    """Of one device."""
    mutable = mvtec.get_config("bottle")
    mutable.mesh.fsdp = fsdp
    mutable.diffusion.steps = mutable.autoencoder.steps = 1
    config = ml_collections.FrozenConfigDict(mutable)
    mesh = sharding.make_mesh(config)
    frozen = {"autoencoder": autoencoder.STAGE.weights_shapes(config, {})}
    state = latent_diffusion.STAGE.state_shapes(config, frozen)
    frozen, state = (sharding.with_shardings(t, sharding.weights_sharding(mesh, t))
                     for t in (frozen, state))  # fmt: skip
    pixels = jax.ShapeDtypeStruct(
        (batch_size, *height_width(config.image_size), 3),
        np.uint8,
        sharding=sharding.batch_sharding(mesh),
    )
    step = jax.jit(
        functools.partial(latent_diffusion.train_step, config=config),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda x: x.sharding, state), None),
    )
    started = time.monotonic()
    compiled = step.lower(state, frozen, {"image": pixels, "augmented_image": pixels}).compile()
    memory = compiled.memory_analysis()
    return {
        "parameter_bytes": bytes_of(state.params),
        "optimizer_bytes": bytes_of(state.opt_state),
        "ema_bytes": bytes_of(state.ema_params),
        # The state is donated: its bytes come in and go out in the same place.
        "compiled_state_bytes": memory.alias_size_in_bytes,
        "compiled_argument_bytes": memory.argument_size_in_bytes,
        "compiled_temporary_bytes": memory.temp_size_in_bytes,
        "compile_seconds": time.monotonic() - started,
    }


def bytes_of(tree: object) -> int:
    """On one device, by shapes and shardings."""
    return sum(
        int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )


if __name__ == "__main__":
    main()
