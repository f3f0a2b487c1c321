"""A trained category as a folder that needs neither this project nor the work directory."""

import shutil
from pathlib import Path

import ml_collections

from diffad_jax.convert.exporter import export_category
from diffad_jax.data import photo
from diffad_jax.export import artifact, card, onnx, safetensors, saved_model, stablehlo
from diffad_jax.export.errors import ExportError
from diffad_jax.export.graph import Model, weights_by_name
from diffad_jax.inference import calibration
from diffad_jax.inference.detector import Detector

_FORMATS = {
    "stablehlo": stablehlo,
    "saved_model": saved_model,
    "onnx": onnx,
    "safetensors": safetensors,
}
PUBLISHED = "published"
NAMES = (*_FORMATS, PUBLISHED)
_EXAMPLES = Path(__file__).with_name("examples")


def export(
    config: ml_collections.ConfigDict, workdir: Path, output: Path, format_name: str
) -> None:
    """Writes ``output / CATEGORY`` for every category, whole or not at all.

    Args:
      config: must agree with the trained one.
      workdir: holds trained stages.
      output: gets a folder for each category.
      format_name: one of ``NAMES``; ``published`` writes the published PyTorch code's own files.

    Raises:
      ExportError: a folder is there already; the format needs a package that is not installed, or
        does not know what the config asks for.
      convert.errors.ConvertError: ``published`` has no counterpart for a field of the config.
      checkpoint.CheckpointError: a stage is missing, unfinished, or of another config.
      layouts.DataError: no threshold is stored, and there are no photos to choose it on.
    """
    for category in config.categories:
        folder = output / category
        if folder.exists():
            raise ExportError(f"{folder} is there already: choose another --output or delete it")
        temporary = output / f".{category}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            if format_name == PUBLISHED:
                export_category(config, workdir, category, temporary)
            else:
                _export(config, workdir, category, temporary, format_name)
            artifact.write_checksums(temporary)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        print(f"{category}: {format_name} in {folder}")


def _export(
    config: ml_collections.ConfigDict, workdir: Path, category: str, folder: Path, name: str
) -> None:
    detector = Detector.from_workdir(config, workdir, category)
    limit = calibration.load_or_choose(config, workdir, category, detector)
    colours = calibration.load_map_range(config, workdir, category, detector)
    model = Model(detector.config, workdir, category, weights_by_name(detector))
    writer = _FORMATS[name]
    writer.write(model, folder)
    content = card.make(model, name, writer.RUNTIME, detector.weights_hash, limit, colours)
    files = (path for path in folder.rglob("*") if path.is_file())
    content["files"] = sorted(path.relative_to(folder).as_posix() for path in files)
    card.write(folder, content, (_EXAMPLES / f"{name}.md").read_text(encoding="utf-8"))
    if (example := _EXAMPLES / f"{name}.py").exists():
        text = example.read_text(encoding="utf-8")
        (folder / "run.py").write_text(text, encoding="utf-8")
        for module in (photo, artifact):
            source = Path(module.__file__)
            if f"import {source.stem}" in text:
                shutil.copy(source, folder)
