"""Weights alone: under our names, and under those of the published PyTorch code."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from diffad_jax.convert import exporter
from diffad_jax.convert.errors import ConvertError
from diffad_jax.export.contract import Format
from diffad_jax.export.graph import Model
from diffad_jax.runtime import console


def write(model: Model, folder: Path) -> None:
    """Writes ``weights.safetensors``, and ``published/`` with a file for each network.

    ``published/`` is left out, and the reason printed, where the published networks have no
    counterpart for the config. ``--mode=import`` reads its files.
    """
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(model.weights))
    try:
        files = exporter.published_tensors(model.config, model.workdir, model.category)
    except ConvertError as error:
        console.note(f"without the published names: {error}")
        return
    (folder / "published").mkdir()
    for name, tensors in files.items():
        contiguous = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
        path = folder / "published" / f"{name}.safetensors"
        path.write_bytes(safetensors.numpy.save(contiguous))


FORMAT = Format(
    write,
    None,
    ("safetensors", "numpy"),
    """`weights.safetensors` holds the weights under the names
`STAGE/COLLECTION/MODULE/.../PARAMETER`:

- stage: one of the method's; of DiffAD `autoencoder`, `denoiser` (its moving average;
  `denoiser/scale` multiplies the latents), `segmenter` and what is fitted beside them; collection:
  `params`, or `batch_stats` for running means and variances;
- modules are those of diffad_jax/models, counted from the side of the photo: `down_1_res_0` is
  the first residual block of the second level;
- a kernel is [height, width, in, out] or [in, out]. The networks take RGB in [0, 1].

All is float32 but banks of patches, which are float16.

`published/`, where it is there, holds the same under the names and layouts of the published PyTorch
code, which takes BGR. There is no graph here.
""",
)
