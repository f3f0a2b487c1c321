"""The networks that the parity tests compare, small, with weights and inputs from a formula.

A value depends on its name alone, so the JAX and the PyTorch side hold the same weights without a
file, and a golden file needs to store outputs only.
"""

import dataclasses
import functools
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import flax
import flax.linen as nn
import jax
import numpy as np

from diffad_jax.models.autoencoder import Autoencoder
from diffad_jax.models.discriminator import Discriminator
from diffad_jax.models.inception import Inception, InceptionDistance
from diffad_jax.models.lpips import Lpips
from diffad_jax.models.reconstructor import Reconstructor
from diffad_jax.models.segmenter import Segmenter
from diffad_jax.models.unet import UNet

GOLDEN = pathlib.Path(__file__).parent / "golden"
TOLERANCE = 1e-5  # largest difference, relative to the largest value of the reference


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of one network, the same on both sides.

    Attributes:
      name: of the golden file.
      module: the Flax network; its fields also describe the PyTorch one.
      inputs: NHWC arrays, or timesteps [b].
      method: of both networks; PyTorch's ``forward`` where it is ``__call__``.
      train: batch normalisation by the batch's statistics; None where the network has none.
    """

    name: str
    module: nn.Module
    inputs: tuple[np.ndarray, ...]
    method: str = "__call__"
    train: bool | None = None

    def shapes(self) -> dict:
        """The network's variables as shapes."""
        first = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in self.inputs]
        init: Callable[..., Any] = self.module.init
        if self.method == "decode":  # init runs the whole autoencoder, from an image
            first = [jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)]
        if self.train is not None:
            init = functools.partial(init, train=False)
        return jax.eval_shape(init, jax.random.key(0), *first)

    @functools.cached_property
    def variables(self) -> dict:
        """The network's variables with values from the formula."""
        flat = flax.traverse_util.flatten_dict(self.shapes())
        return flax.traverse_util.unflatten_dict(
            {path: formula_weight(path, leaf.shape) for path, leaf in flat.items()}
        )

    def run(self, variables: dict, *inputs) -> tuple[jax.Array, dict]:
        """The output as one array, and the new batch statistics."""
        call = functools.partial(self.module.apply, variables, *inputs)
        statistics: dict = {}
        if self.train is None:
            output = call(method=self.method)
        else:
            output, updated = call(train=self.train, mutable=["batch_stats"])  # pyright: ignore
            statistics = updated["batch_stats"]
        if isinstance(output, tuple):  # mean and logvar
            output = jax.numpy.concatenate(output, axis=-1)
        if isinstance(output, dict):  # a map of the one layer asked for
            (output,) = output.values()
        return output, statistics


def formula_weight(path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Values for the parameter at ``path``: random looking, of a trained network's size."""
    normal = formula_normal("/".join(path), shape)
    kind = path[-1]
    if kind == "kernel":
        return normal / np.sqrt(np.prod(shape[:-1]), dtype=np.float32)
    if kind == "scale":
        return 1 + normal / 10
    if kind == "var":
        return np.exp(normal / 5)
    if kind.startswith("head"):
        return np.abs(normal) / shape[0]
    return normal / 10  # bias, mean


def formula_normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32; NumPy keeps RandomState's numbers the same for ever."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return random.standard_normal(shape).astype(np.float32)


def formula_uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """U(0, 1) float32: an image."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return random.uniform(size=shape).astype(np.float32)


def relative_error(ours, reference) -> float:
    """max |ours - reference| / max |reference|."""
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape
    return float(np.max(np.abs(ours - reference)) / np.max(np.abs(reference)))


def _small_cases() -> tuple[Case, ...]:
    """Every network at a small width, sizes chosen so that every kind of block occurs."""
    autoencoder = Autoencoder(channels=16, multipliers=(1, 2, 2), num_res_blocks=1)
    unet = UNet(
        channels=16,
        multipliers=(1, 2),
        num_res_blocks=1,
        attention_downsampling=(2,),
        head_channels=8,
        out_channels=4,
    )
    linear = autoencoder.clone(patch_size=2, latent_channels=6, linear_skip=True)
    segmenter = Segmenter(channels=8, multipliers=(1, 2, 4, 4))
    reconstructor = Reconstructor(channels=8, multipliers=(1, 2, 4))
    discriminator = Discriminator(channels=8)
    lpips = Lpips(channels=8)
    image = formula_uniform("image", (2, 32, 24, 3))
    noisy = (formula_normal("latents", (2, 8, 6, 8)), np.array([7, 901], np.int32))
    stacked = formula_uniform("stacked", (2, 32, 24, 9))
    # every block sees a map of at least 3 × 2, so that padding and pooling matter
    inception = Inception(("mixed_10",), channels=4)
    large = formula_uniform("large", (1, 139, 107, 3))
    distance = InceptionDistance(("conv_2", "mixed_2", "mixed_4"), channels=4)
    pair = tuple(formula_uniform(name, (2, 80, 76, 3)) for name in ("first", "second"))
    return (
        Case("encoder", autoencoder, (image,), "encode"),
        Case("decoder", autoencoder, (formula_normal("latent", (2, 8, 6, 4)),), "decode"),
        Case("encoder_linear", linear, (image,), "encode"),
        Case("decoder_linear", linear, (formula_normal("latent", (2, 4, 3, 6)),), "decode"),
        Case("unet", unet, noisy),
        Case("unet_linear", unet.clone(linear_skip=True), noisy),
        Case("segmenter_eval", segmenter, (stacked,), train=False),
        Case("segmenter_train", segmenter, (stacked,), train=True),
        Case("reconstructor_eval", reconstructor, (image,), train=False),
        Case("reconstructor_train", reconstructor, (image,), train=True),
        Case("discriminator_eval", discriminator, (image,), train=False),
        Case("discriminator_train", discriminator, (image,), train=True),
        Case("lpips", lpips, (image, formula_uniform("reference", (2, 32, 24, 3)))),
        Case("inception", inception, (large,)),
        Case("inception_distance", distance, pair),
    )


SMALL_CASES = _small_cases()
