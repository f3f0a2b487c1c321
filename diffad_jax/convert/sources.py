"""Other people's files of weights: reads either format, and recognises the networks in them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from diffad_jax.convert import torch_file
from diffad_jax.convert.errors import ConvertError
from diffad_jax.models import pretrained

AUTOENCODER = "autoencoder"  # latent-diffusion's names: DiffAD's checkpoint, kl-f8
DIFFUSERS = "diffusers autoencoder"
LATENT_DIFFUSION = "latent diffusion"  # denoiser, its average, and the autoencoder
SEGMENTER = "segmenter"  # DiffAD's, or DRAEM's alone
RECONSTRUCTOR = "reconstructor"  # DRAEM's alone
RECONSTRUCTOR_AND_SEGMENTER = "reconstructor and segmenter"  # DRAEM's two files together

_SIGNS = {  # tensors' names that begin with each of them
    LATENT_DIFFUSION: ("model.diffusion_model.",),
    RECONSTRUCTOR_AND_SEGMENTER: ("encoder.block1.", "encoder_segment."),
    SEGMENTER: ("encoder_segment.",),
    RECONSTRUCTOR: ("encoder.block1.",),
    DIFFUSERS: ("encoder.down_blocks.",),
    AUTOENCODER: ("encoder.down.",),
}
NETWORKS = {  # by the names that stages give them
    LATENT_DIFFUSION: ("autoencoder", "denoiser"),
    RECONSTRUCTOR_AND_SEGMENTER: ("reconstructor", "segmenter"),
    SEGMENTER: ("segmenter",),
    RECONSTRUCTOR: ("reconstructor",),
    DIFFUSERS: ("autoencoder",),
    AUTOENCODER: ("autoencoder",),  # and perhaps its discriminator
}


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a ``.safetensors`` file, or of a PyTorch file of any name.

    Raises:
      ConvertError: the file cannot be read, see ``torch_file.read``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return torch_file.read(path)
    try:
        with pretrained.open_safetensors(path) as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, ValueError) as error:
        raise ConvertError(str(error)) from error
    except Exception as error:  # a type of numbers is missed by three kinds of errors
        raise ConvertError(
            f"{path} holds numbers of a type that NumPy lacks ({error}): save them as float32"
        ) from error
    if not all(map(torch_file.is_name, tensors)):
        raise ConvertError(f"{path} has a tensor whose name is too long, or cannot be printed")
    return tensors


def recognise(names: Iterable[str], source: str) -> str:
    """Which kind of file has tensors of these ``names``.

    Raises:
      ConvertError: none of them.
    """
    names = list(names)
    for kind, signs in _SIGNS.items():
        if all(any(name.startswith(sign) for name in names) for sign in signs):
            return kind
    raise ConvertError(
        f"{source} is of no known kind, its tensors begin with {', '.join(sorted(names)[:3])}: "
        "expected an autoencoder, a latent diffusion checkpoint or a segmenter of DiffAD, kl-f8, "
        "an AutoencoderKL of diffusers, or a network of DRAEM"
    )
