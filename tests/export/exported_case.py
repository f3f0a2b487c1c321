"""A trained detector that is exported once in each format, and its programs run alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from published_case import published, published_files

from configs import mvtec_small
from diffad_jax.convert import torch_file
from diffad_jax.convert.importer import import_file
from diffad_jax.data import images, listing
from diffad_jax.export import exporter
from diffad_jax.inference.detector import Detector

TOLERANCE = 1e-5  # of scores and maps in [0, 1]


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """Config, work directory, photos' files and what ``predict`` says of them."""
    config = mvtec_small.get_config("tiles")
    with config.unlocked():
        config.update_from_flattened_dict(TINY)
    config.data.root = photos
    config = published(config)
    workdir = tmp_path_factory.mktemp("trained")
    published_files(config, workdir)
    segmenter = torch_file.read(workdir / "segmenter.pckl")
    for name, value in segmenter.items():
        if value.ndim == 4:
            segmenter[name] = 4 * value  # else it gives all photos the same score
    torch_file.write(workdir / "segmenter.pckl", segmenter, bare=True)
    for name in ("denoiser.ckpt", "segmenter.pckl"):
        import_file(config, workdir, workdir / name)
    files = listing.find_photos(Path(photos) / "tiles" / "test")[0]
    pixels, _, _ = images.read_images(files, config.image_size, images.rules(config.data))
    predicted = Detector.from_workdir(config, workdir, "tiles").predict_all(pixels, len(files))
    assert np.ptp(predicted.score) > 100 * TOLERANCE
    return config, workdir, files, pixels, predicted


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """A function: format name -> its folder, exported once; the work directory is elsewhere."""
    config, workdir, *_ = trained
    output = tmp_path_factory.mktemp("exported")

    def folder(name: str) -> Path:
        if not (output / name).exists():
            exporter.export(config, workdir, output / name, name)
        return output / name / "tiles"

    return folder


def run_without(modules: tuple[str, ...], program: str, folder: Path) -> str:
    """The output of a Python program that finds none of ``modules``."""
    blocked = f"import sys\nfor name in {modules}: sys.modules[name] = None\n"
    run = subprocess.run(
        [sys.executable, "-c", blocked + program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


RUN = """
import runpy
sys.argv = {arguments}
try:
    runpy.run_path({arguments}[0], run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
"""


def run_program(model: Path, *arguments: str) -> str:
    """A program that runs ``run.py`` as a user does."""
    program = RUN.format(arguments=[str(model / "run.py"), *arguments])
    return f"sys.path.insert(0, {str(model)!r})\n" + program


def assert_scored(output: str, files: list[str], scores: np.ndarray, limit: float) -> None:
    """``run.py``'s table."""
    header, *rows = [line.split(",") for line in output.splitlines()]
    assert header == ["file", "score", "is_anomalous", "verdict"]
    assert [row[0] for row in rows] == files
    np.testing.assert_allclose([float(row[1]) for row in rows], scores, atol=TOLERANCE)
    assert [row[2] for row in rows] == [str(int(s > limit)) for s in scores]
    assert [row[3] for row in rows] == ["anomalous" if s > limit else "normal" for s in scores]
