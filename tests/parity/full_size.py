"""Compares the networks at their published size with their PyTorch twins, once, by hand.

Command: python tests/parity/full_size.py [NAME ...]   (without names: all of them; see below)
Needs:   PyTorch and this package, 8 GB of memory

Prints one line a network: its parameters, and the largest relative error of JAX and of PyTorch in
float32 against PyTorch in float64. Batch 1, 256 × 256 pixels, weights from a formula. Batch
statistics of a single image amplify rounding, so ``segmenter_train`` is measured by the error that
PyTorch makes in float32 itself.
"""

import math
import sys
import time

import jax
import numpy as np
import torch
import torch_run
from parity_cases import TOLERANCE, Case, formula_normal, formula_uniform, relative_error

from diffad_jax.models.autoencoder import Autoencoder
from diffad_jax.models.discriminator import Discriminator
from diffad_jax.models.inception import Inception
from diffad_jax.models.lpips import Lpips
from diffad_jax.models.segmenter import Segmenter
from diffad_jax.models.unet import UNet


def full_size_cases() -> dict[str, Case]:
    image = formula_uniform("image", (1, 256, 256, 3))
    latent = formula_normal("latent", (1, 32, 32, 4))
    latents = formula_normal("latents", (1, 32, 32, 8))
    timestep = np.array([501], np.int32)
    stacked = formula_uniform("stacked", (1, 256, 256, 9))
    reference = formula_uniform("reference", (1, 256, 256, 3))
    cases = (
        Case("encoder", Autoencoder(), (image,), "encode"),
        Case("decoder", Autoencoder(), (latent,), "decode"),
        Case("unet", UNet(), (latents, timestep)),
        Case("segmenter", Segmenter(), (stacked,), train=False),
        Case("segmenter_train", Segmenter(), (stacked,), train=True),
        Case("discriminator", Discriminator(), (image,), train=False),
        Case("lpips", Lpips(), (image, reference)),
        Case("inception", Inception(("mixed_10",)), (image,)),
    )
    return {case.name: case for case in cases}


def compare(case: Case) -> bool:
    """Runs both sides and prints the line; whether JAX is as exact as it should be."""
    start = time.perf_counter()
    variables = case.variables
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    output = np.asarray(jax.jit(case.run)(variables, *case.inputs)[0])
    with torch.no_grad():
        single, double = (
            torch_run.to_numpy(torch_run.run(case, dtype)[2])
            for dtype in (torch.float32, torch.float64)
        )
    ours, theirs = relative_error(output, double), relative_error(single, double)
    print(
        f"{case.name}: {count:,} parameters, relative error JAX {ours:.1e}, PyTorch {theirs:.1e}, "
        f"{time.perf_counter() - start:.0f} s",
        flush=True,
    )
    return ours <= max(TOLERANCE, 2 * theirs)


def main(names: list[str]) -> None:
    cases = full_size_cases()
    inexact = [name for name in names or cases if not compare(cases[name])]
    if inexact:
        sys.exit(f"more than {TOLERANCE:.0e} off: {', '.join(inexact)}")


if __name__ == "__main__":
    main(sys.argv[1:])
