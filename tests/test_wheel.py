"""What pip installs, in an empty folder: the recipes are there, and so is the command."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The content of a wheel that was built from a copy of the sources."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("diffad_jax", "configs"):
        shutil.copytree(ROOT / name, place / "source" / name)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
               "--no-build-isolation", "--wheel-dir", place, place / "source"]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


def run(installed, folder, *flags) -> subprocess.CompletedProcess:
    program = [sys.executable, "-P", "-m", "diffad_jax", *flags]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True)


def test_it_holds_what_was_written(installed):
    files = {p.relative_to(installed).as_posix() for p in installed.rglob("*") if p.is_file()}
    written = {f"diffad_jax/{p.relative_to(ROOT / 'diffad_jax').as_posix()}"
               for p in (ROOT / "diffad_jax").rglob("*")
               if p.is_file() and "__pycache__" not in p.parts}  # fmt: skip
    written |= {f"diffad_jax/recipes/{p.name}" for p in (ROOT / "configs").glob("*.py")}
    assert not written - files
    (scripts,) = installed.glob("*.dist-info/entry_points.txt")
    assert "diffad = diffad_jax.main:main" in scripts.read_text()
    tops = {f.split("/")[0] for f in files if ".dist-info" not in f}
    assert tops == {"diffad_jax"}, "nothing that another package could shadow"


def test_recipes_are_found_in_an_empty_folder(installed, tmp_path):
    for name in ("folder:bottles", "folder.py:bottles", "configs/folder.py:bottles"):
        found = run(installed, tmp_path, f"--config={name}", "--workdir=w",
                    "--config.data.root=nowhere")  # fmt: skip
        assert found.stderr == (
            "error: no folder nowhere: name the one that holds categories, "
            "--config.data.root=FOLDER\n"
        )
    found = run(installed, tmp_path, "--help")
    assert "Fields" in found.stdout or "The fields of --config=folder" in found.stdout
    assert run(installed, tmp_path, "--version").stdout.startswith("diffad_jax ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=nothing.py:a"], "--config=nothing.py: there is no such file"),
        ([], "--config=FILE is missing"),
        (["--config=folder:a"], "--mode=train needs --workdir"),
        (["--config=folder:a", "--mode=evaluate"], "--mode=evaluate needs --workdir"),
        (["--workdir=w", "--mode=predict"], "--config=FILE is missing"),
    ],
)
def test_what_is_missing_is_one_line(flags, message, installed, tmp_path):
    found = run(installed, tmp_path, *flags)
    assert found.returncode == 1 and found.stderr.count("\n") == 1
    assert message in found.stderr


def test_a_package_that_is_missing_is_named(installed, tmp_path, photos):
    """TensorFlow makes training examples; who only predicts does without it."""
    program = (
        "import sys; sys.modules['tensorflow'] = None; from diffad_jax.main import main; main()"
    )
    flags = ["--config=folder:tiles", f"--config.data.root={photos}", "--mode=inspect"]
    found = subprocess.run(
        [sys.executable, "-c", program, *flags, f"--output={tmp_path / 'out'}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert found.stderr == (
        "error: --mode=inspect needs tensorflow, which is not installed: "
        "pip install 'diffad_jax[data]'\n"
    )
