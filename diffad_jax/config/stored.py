"""The config that a category was trained with, kept beside its weights: CATEGORY/config.json."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from diffad_jax.config.fields import DOWNLOAD, LENGTH, WEIGHTS, Config, Section, value_of
from diffad_jax.errors import ConfigError
from diffad_jax.runtime import files, regular

_FILE = "config.json"


def write(config: Config, sections: Iterable[Section], directory: Path, category: str) -> None:
    """Keeps the config of one category in its folder, paths as absolute ones."""
    kept = ml_collections.ConfigDict(json.loads(config.to_json_best_effort()))
    kept.categories = [category]
    for part in sections:
        for name, field in part.dotted():
            if field.place:
                section, _, key = name.rpartition(".")
                kept[section][key] = _absolute(value_of(config, name))
    files.write_whole(directory / _FILE, json.dumps(kept.to_dict(), indent=2) + "\n")


def read(directory: Path) -> ml_collections.ConfigDict:
    """The config in a category's folder.

    Raises:
      ConfigError: there is none, or it cannot be read.
    """
    path = directory / _FILE
    try:
        content = regular.read_json(path)
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
        return _parsed(content)
    except FileNotFoundError:
        raise ConfigError(f"{directory} holds no {_FILE}: nothing was trained there") from None
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot read {path}: {reason}; put back a copy, or name a recipe with --config"
        ) from error


def of_cards(paths: Sequence[Path], chosen: Sequence[str]) -> ml_collections.ConfigDict:
    """The one config of several exported categories; ``chosen`` as for ``of_workdir``."""
    found = {(own := of_card(path)).categories[0]: own for path in paths}
    if unknown := sorted({*chosen} - found.keys()):
        raise ConfigError(
            f"{paths[0].parent.parent} holds {', '.join(found)}, exported, and no {unknown[0]}"
        )
    return _alike({name: found[name] for name in chosen or found}, paths[0].parent.parent)


def of_card(path: Path) -> ml_collections.ConfigDict:
    """The config that an exported folder's card keeps; see ``read``."""
    try:
        card = regular.read_json(path)
        config = _parsed(card["config"])
        config.categories = (card["category"],)
    except (OSError, ValueError, TypeError, LookupError) as error:
        reason = getattr(error, "strerror", None) or repr(error)
        raise ConfigError(f"cannot read {path}: {reason}; export the folder again") from error
    return config


def categories(workdir: Path) -> list[str]:
    """The categories of a work directory that keep a config, sorted."""
    return sorted(path.parent.name for path in workdir.glob(f"*/{_FILE}"))


def of_workdir(workdir: Path, chosen: Sequence[str]) -> ml_collections.ConfigDict:
    """The one config of several categories; ``chosen`` is empty for all that there are.

    Raises:
      ConfigError: there is none, or they differ.
    """
    names = list(chosen) or categories(workdir)
    if not names:
        raise ConfigError(
            f"--config=FILE is missing, and no category was trained in {workdir}, which would "
            "remember its own"
        )
    return _alike({name: read(workdir / name) for name in names}, workdir)


def _alike(
    configs: Mapping[str, ml_collections.ConfigDict], folder: Path
) -> ml_collections.ConfigDict:
    first, *others = configs
    config = configs[first]
    config.categories = tuple(configs)
    for name in others:
        configs[name].categories = config.categories
        for field, here in flat(config).items():
            if here != flat(configs[name]).get(field):
                raise ConfigError(
                    f"{first} and {name} in {folder} were not trained alike: config.{field} "
                    f"differs. Name one: --config.categories={first}"
                )
    return config


def refuse_other_method(config: Config, directory: Path) -> None:
    """Raises ConfigError if a category's folder keeps the config of another method.

    So does one whose networks are shared where these are not, or the other way round.
    """
    if not (directory / _FILE).exists():
        return
    kept = read(directory)
    for name in ("method", "shared", "shared_stages", "shared_label"):
        if kept[name] != config[name]:
            raise ConfigError(
                f"{directory} holds a detector of config.{name} = {kept[name]!r}, not "
                f"{config[name]!r}: choose another --workdir, or leave --config away to use what "
                "is there"
            )


def differences(
    config: Config, sections: Iterable[Section], directory: Path
) -> tuple[list[str], list[str]]:
    """How ``config`` differs from the one in a category's folder, if there is one.

    Returns:
      Fields that need other weights, and fields that do not, as "config.x = 1, trained with 2".
    """
    if not (directory / _FILE).exists():
        return [], []
    kept, locking, free = flat(read(directory)), [], []
    for part in sections:
        for name, field in part.dotted():
            here, there = value_of(config, name), kept.get(name)
            if field.place:
                here, there = _absolute(here), _absolute(there)
            if name == "categories" or here == there:
                continue
            found = locking if field.use in (WEIGHTS, LENGTH) and not field.place else free
            found.append(f"config.{name} = {here!r}, trained with {there!r}")
    return locking, free


def flat(config: Config) -> dict[str, Any]:
    """Every field by its dotted name."""
    found = {}
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict | ml_collections.FrozenConfigDict):
            found |= {f"{name}.{key}": v for key, v in flat(value).items()}
        else:
            found[name] = value
    return found


def _absolute(value: str | None) -> str | None:
    """A path that exists as an absolute one; anything else as it is."""
    is_path = value and value != DOWNLOAD and Path(value).exists()
    return str(Path(value).absolute()) if is_path else value


def _parsed(content: dict[str, Any]) -> ml_collections.ConfigDict:
    """Fields that earlier versions did not have are as these versions were."""
    before = {"shared": False, "shared_stages": "all", "shared_label": "none"}
    content = before | _with_tuples(content)
    if "autoencoder" in content:
        content["autoencoder"] = {"window": 0} | content["autoencoder"]
    return ml_collections.ConfigDict(content)


def _with_tuples(content: Any) -> Any:
    if isinstance(content, dict):
        return {k: _with_tuples(v) for k, v in content.items()}
    return tuple(content) if isinstance(content, list) else content
