"""Which file --config means, and what is said of one that is no recipe."""

import subprocess
import sys
from pathlib import Path

import pytest

from diffad_jax.config import recipes
from diffad_jax.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name", ["folder:a", "folder.py:a", "configs/folder.py:a", "configs/folder:a"]
)
def test_those_of_the_package_are_found_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = recipes.load(name)
    assert config.categories == ("a",) and config.data.layout == "folder"


def test_the_current_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").write_text(
        "from configs import mvtec\n\n\ndef get_config(name):\n"
        "    config = mvtec.get_config(name)\n    config.seed = 7\n    return config\n"
    )
    assert recipes.load("folder:a").seed == 7
    assert recipes.load("configs/folder.py:a").seed == 0


@pytest.mark.parametrize("method", ["diffad", "draem", "riad", "padim", "patchcore"])
def test_photos_in_a_folder_with_any_method(method):
    config = recipes.load("folder:bottles", method)
    assert (config.method, config.data.layout) == (method, "folder")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file, and no recipe of this name comes with diffad_jax: demo, "),
        ("def get_config(:", "line 1: SyntaxError"),
        ("import nothing_of_that_name", "line 1: ModuleNotFoundError: No module named"),
        ("x = 1", "is no recipe: it defines no get_config"),
        ("def get_config(name=None):\n    return 1", "its get_config returns no ConfigDict"),
        ("def get_config():\n    return 1", "takes no argument: leave :tiles away"),
        (
            "from configs import demo\n\n\ndef get_config(name):\n    c = demo.get_config(name)\n"
            "    c.autoencoder.steeps = 3\n",
            'line 6: AttributeError: \'Key "steeps" does not exist',
        ),
    ],
)
def test_what_is_no_recipe_is_one_sentence(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError) as error:
        recipes.load("mine.py:tiles")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_recipes_import_each_other_where_nothing_but_the_package_is_installed(tmp_path):
    """Even beside a folder of the user's own that is called configs."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text(
        "from configs import demo\n\nget_config = demo.get_config\n"
    )
    program = (
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        "from diffad_jax.config import recipes\n"
        "print(recipes.load('configs/mine.py:a').image_size, recipes.load('mvtec').image_size)\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": "/usr/bin", "JAX_PLATFORMS": "cpu", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert run.stdout == "128 256\n", run.stderr
