"""The rules of the house, read from the code."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from diffad_jax.methods.registry import METHODS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diffad_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
# A folder imports from its own floor and from those below it.
FLOORS = (
    {"errors", "types", "config", "runtime"},
    {"data", "models"},
    {"methods"},
    {"inference", "training"},
    {"evaluation", "export", "convert", "serve"},
    {"commands"},
    {"main", "__main__"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
NO_TENSORFLOW = ("layouts", "images", "photo", "toy", "recorded", "inspect", "inspect_text")

# They read and write DiffAD's published noise schedule.
PUBLISHED_SCHEDULE = ("convert/torch_weights.py", "convert/exporter.py")


def imports(path: Path, at_once: bool = False) -> set[str]:
    """What a file imports; ``at_once``: leaving out what functions import when they are called."""
    names: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        if not (at_once and isinstance(node, ast.FunctionDef)):
            nodes += ast.iter_child_nodes(node)
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_used(path: Path) -> set[str]:
    """Folders and root modules of the package that a file imports from."""
    found = {n.split(".")[1] for n in imports(path) if n.startswith("diffad_jax.")}
    return {name for name in found if name in FLOOR}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_room_stands_on_those_below_it(path):
    if room(path) == "__init__":
        return
    above = {used for used in rooms_used(path) if FLOOR[used] > FLOOR[room(path)]}
    assert not above


def test_methods_know_nothing_of_the_loop_and_the_loop_knows_no_method():
    for path in (PACKAGE / "training").rglob("*.py"):
        used = {n for n in imports(path) if n.startswith("diffad_jax.methods.")}
        neutral = tuple(
            f"diffad_jax.methods.{m}." for m in ("computing", "contract", "train_state")
        )
        assert not {n for n in used if not n.startswith(neutral)}, path


def test_training_does_not_stand_on_inference():
    for path in (PACKAGE / "training").rglob("*.py"):
        assert "inference" not in rooms_used(path), path


def test_no_method_is_known_by_name_outside_its_room():
    """Neither as a word, nor as its config section, nor by importing it."""
    methods = {name.casefold() for name in METHODS}
    for path in FILES:
        relative = path.relative_to(PACKAGE)
        if relative.parts[0] == "methods" or relative.name == "paper_results.py":
            continue  # its columns are the paper's methods
        nodes = list(ast.walk(ast.parse(path.read_text())))
        words = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        words |= {n.attr for n in nodes if isinstance(n, ast.Attribute)}
        assert not {w for w in words if w.casefold() in methods}, path
        rooms = {n.split(".")[2] for n in imports(path) if n.startswith("diffad_jax.methods.")}
        if relative.as_posix() in PUBLISHED_SCHEDULE:
            rooms.discard("diffad")
        assert not rooms & methods, path


def test_what_an_exported_model_carries_needs_none_of_us():
    names = ("export/run.py", "export/artifact.py", "runtime/checksums.py", "runtime/regular.py")
    names = (*names, "runtime/cells.py", "data/photo.py", "data/pictures.py")
    names = (*names, "inference/regions.py")
    carried = {f"diffad_jax.{name.removesuffix('.py').replace('/', '.')}" for name in names}
    for name in names:
        used = {n for n in imports(PACKAGE / name) if n.startswith("diffad_jax")}
        assert used <= carried, name


def test_tensorflow_stays_in_data_and_in_the_saved_model():
    for path in FILES:
        relative = path.relative_to(PACKAGE)
        allowed = relative.parts[0] == "data" and path.stem not in NO_TENSORFLOW
        allowed = allowed or (
            relative.parts[0] == "export" and path.name in ("saved_model.py", "tensorflow_photo.py")
        )
        found = {n for n in imports(path) if n.split(".")[0].startswith("tensorflow")}
        assert allowed or not found, path


def test_one_file_knows_how_to_replace_a_file():
    """``files.whole``: others forget that content has to be on the disk before its name."""
    for path in FILES:
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        named = [(c.func.attr, c) for c in calls if isinstance(c.func, ast.Attribute)]
        renames = [
            call
            for name, call in named
            if name in ("rename", "renames", "move")
            or (name == "replace" and len(call.args) == 1 and not call.keywords)  # no str's
        ]
        assert not renames or path == PACKAGE / "runtime" / "files.py", path


def test_configs_have_no_hidden_defaults():
    for path in FILES:
        assert "config.get(" not in path.read_text(), path


def test_what_is_printed_goes_through_the_console():
    for path in FILES:
        if path.relative_to(PACKAGE).as_posix() in ("runtime/console.py", "export/run.py"):
            continue  # an exported folder has none of us
        names = {getattr(c.func, "id", "") for c in ast.walk(ast.parse(path.read_text()))
                 if isinstance(c, ast.Call)}  # fmt: skip
        assert "print" not in names, path


def test_benchmarks_define_their_flags_only_where_they_run():
    """A required flag of an imported one would be missing in all else that parses flags."""
    for path in (ROOT / "benchmarks").glob("*.py"):
        body = ast.parse(path.read_text()).body
        at_import = [n for n in body if not isinstance(n, (ast.FunctionDef, ast.If))]
        assert not [n.lineno for n in at_import if ".DEFINE_" in ast.unparse(n)], path.name


def test_files_are_short():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 400, path
    assert len((PACKAGE / "main.py").read_text().splitlines()) < 80


def test_functions_are_short():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 80, (path, node.name)


def test_no_modules_import_each_other_in_a_circle():
    """At import time; a package's own module counts where a name is taken from it."""
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    graph = {}
    for name, path in modules.items():
        used = {n if n in modules else n.rpartition(".")[0] for n in imports(path, at_once=True)}
        graph[name] = (used & modules.keys()) - {"diffad_jax"}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # a CycleError names the circle
    assert set(order) == graph.keys()


def test_the_package_has_few_files_in_its_root_and_few_folders():
    root = [p for p in PACKAGE.iterdir() if p.suffix == ".py"]
    folders = [p for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"]
    assert len(root) <= 7
    assert len(folders) <= 12


def test_the_detector_imports_without_tensorflow():
    program = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['tensorflow_datasets'] = None\n"
        "import diffad_jax.inference.detector, diffad_jax.commands.evaluate\n"
        "import diffad_jax.commands.predict, diffad_jax.commands.benchmark\n"
        "print('imported')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "imported\n", run.stderr
