"""The rules of the house, read from the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diffad_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
TOP = (
    "train", "checkpoint", "compilation", "fingerprint", "journal", "profiling", "stopping",
    "processes", "progress", "detector", "evaluate", "evaluate_files", "evaluate_photos", "predict",
    "predict_sources", "predict_writer", "predict_exported", "scoring", "tiling", "threshold",
    "workflow", "convert", "export", "serve", "main", "modes", "speed", "methods", "diffad", "fit",
    "cost",
)  # fmt: skip
EXPORTS_TENSORFLOW = (
    "export/saved_model.py", "export/tensorflow_photo.py", "export/examples/saved_model.py",
    "serve/runtimes.py",
)  # fmt: skip
NO_TENSORFLOW = ("layouts", "images", "photo", "toy", "recorded", "inspect", "inspect_text")


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def uses(path: Path, *modules: str) -> set[str]:
    full = [f"diffad_jax.{m}" for m in modules]
    return {n for n in imports(path) if any(n == m or n.startswith(f"{m}.") for m in full)}


@pytest.mark.parametrize("folder", ["data", "models", "diffusion", "evaluation"])
def test_leaves_know_nothing_of_what_stands_on_them(folder):
    for path in (PACKAGE / folder).rglob("*.py"):
        assert not uses(path, "stages", "baselines", "reconstruct", "segment", *TOP), path


def test_losses_and_stages_know_nothing_of_the_loop():
    assert not uses(PACKAGE / "losses.py", "stages", *TOP)
    for folder in ("stages", "baselines"):
        for path in (PACKAGE / folder).rglob("*.py"):
            assert not uses(path, *TOP), path


def test_what_an_exported_model_carries_needs_none_of_us():
    for name in ("data/photo.py", "serve/artifact.py"):
        assert not {n for n in imports(PACKAGE / name) if n.startswith("diffad_jax")}, name


def test_nothing_imports_main():
    for path in FILES:
        assert not uses(path, "main"), path


def test_tensorflow_stays_in_data():
    for path in FILES:
        allowed = path.parent.name == "data" and path.stem not in NO_TENSORFLOW
        allowed = allowed or path.relative_to(PACKAGE).as_posix() in EXPORTS_TENSORFLOW
        found = {n for n in imports(path) if n.split(".")[0].startswith("tensorflow")}
        assert allowed or not found, path


def test_configs_have_no_hidden_defaults():
    for path in FILES:
        assert "config.get(" not in path.read_text(), path


def test_files_are_short():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 400, path
    assert len((PACKAGE / "main.py").read_text().splitlines()) < 80


def test_the_detector_imports_without_tensorflow():
    program = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['tensorflow_datasets'] = None\n"
        "import diffad_jax.detector, diffad_jax.evaluate, diffad_jax.predict, diffad_jax.speed\n"
        "print('imported')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "imported\n", run.stderr
