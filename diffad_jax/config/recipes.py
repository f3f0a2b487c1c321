"""Finds recipes: Python files with ``get_config(arg)``, the user's own or those of the package."""

import importlib.util
import inspect
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

import ml_collections

from diffad_jax.errors import ConfigError, UserError

_MOST_BYTES = 2**20


def packaged() -> Path:
    """The folder of the recipes that come with the package; in a checkout its ``configs``."""
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "configs"


def names() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(p.stem for p in packaged().glob("*.py") if not p.stem.startswith("_"))


def load(name: str, method: str = "") -> ml_collections.ConfigDict:
    """The config of ``FILE`` or ``FILE:ARGUMENT``, with or without ``.py``.

    Args:
      name: a file of the current folder, else one that comes with the package.
      method: is passed to ``get_config`` of recipes that know several methods.

    Raises:
      ConfigError: there is no such file, or it holds no config.
    """
    file, _, argument = name.partition(":")
    path = _find(file)
    if path.stat().st_size > _MOST_BYTES:
        raise ConfigError(f"{path} is no recipe: it is larger than {_MOST_BYTES >> 20} MiB")
    _share_packaged()
    try:
        spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
        recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(recipe)
        return _config_of(recipe, argument, method, path)
    except UserError:
        raise
    except Exception as error:  # a recipe is a program of its own
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if Path(f.filename) == path]
        line = error.lineno if isinstance(error, SyntaxError) else [None, *lines][-1]
        where = f"{path}, line {line}" if line else str(path)
        text = re.sub(r" Other fields present: .*", "", str(error))  # of ml_collections
        text = f"{where}: {type(error).__name__}: {' '.join(text.split())}"
        raise ConfigError(f"--config={name}: {text}") from error


def _config_of(
    recipe: ModuleType, argument: str, method: str, path: Path
) -> ml_collections.ConfigDict:
    get_config = getattr(recipe, "get_config", None)
    if get_config is None:
        raise ConfigError(f"{path} is no recipe: it defines no get_config")
    takes = inspect.signature(get_config).parameters
    if argument and not takes:
        raise ConfigError(f"{path} takes no argument: leave :{argument} away")
    chosen = {"method": method} if method and "method" in takes else {}
    config = get_config(argument, **chosen) if argument else get_config(**chosen)
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(f"{path} is no recipe: its get_config returns no ConfigDict")
    return config


def _find(file: str) -> Path:
    here = Path(file).expanduser()
    # Written with its folder in a checkout, ``configs/folder.py`` is the packaged one elsewhere.
    below = [packaged() / here.name] if here.parent in (Path("."), Path("configs")) else []
    for path in (here, *below):
        for candidate in (path, path.with_name(f"{path.name}.py")):
            if candidate.is_file():
                return candidate.absolute()
    raise ConfigError(
        f"--config={file}: there is no such file, and no recipe of this name comes with "
        f"diffad_jax: {', '.join(names())}"
    )


def _share_packaged() -> None:
    """Recipes import each other from ``configs``, wherever the package is installed."""
    if "configs" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "configs",
        packaged() / "__init__.py",
        submodule_search_locations=[str(Path("configs").absolute()), str(packaged())],
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["configs"] = module
    spec.loader.exec_module(module)
