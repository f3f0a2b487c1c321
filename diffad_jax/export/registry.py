"""The formats that ``--format`` can name."""

from pathlib import Path

import jax

from diffad_jax.config import stored
from diffad_jax.export import artifact, onnx, openvino, safetensors, saved_model, stablehlo
from diffad_jax.export.contract import Format

FORMATS: dict[str, Format] = {
    "stablehlo": stablehlo.FORMAT,
    "saved_model": saved_model.FORMAT,
    "onnx": onnx.FORMAT,
    "onnx_seeded": onnx.SEEDED,
    "openvino": openvino.FORMAT,
    "safetensors": safetensors.FORMAT,
}


def exported(folder: Path) -> dict[str, Path]:
    """The exported folders of all categories in ``folder``, or itself if it is one; else none."""
    if (folder / artifact.CARD).exists():
        return {stored.of_card(folder / artifact.CARD).categories[0]: folder}
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{artifact.CARD}"))}


def tensors(folder: Path, card: dict) -> dict[str, jax.Array]:
    """The tensors of a folder's graph by name; none where its format keeps them inside.

    Raises:
      ArtifactError: a file of them is damaged.
    """
    known = FORMATS.get(card["format"])
    return known.tensors(folder, card) if known and known.tensors else {}


def load(folder: Path, card: dict) -> artifact.Detect:
    """The graph of a folder whose card ``artifact.read_card`` gave.

    Raises:
      ArtifactError: the format holds no graph, needs a package that is not installed, or the
        runtime refuses the graph.
    """
    known = FORMATS.get(card["format"])
    if known is None or known.load is None:
        names = ", ".join(name for name, each in FORMATS.items() if each.load)
        raise artifact.ArtifactError(
            f"{folder} holds {card['format']}, which cannot be run: export it as one of {names}"
        )
    return artifact.start(known.load, folder, card)
