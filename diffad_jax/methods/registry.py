"""The methods that ``config.method`` can name."""

import os
from pathlib import Path

import ml_collections

from diffad_jax.config import common, fields
from diffad_jax.config.fields import Section
from diffad_jax.errors import ConfigError
from diffad_jax.methods import draem, padim, patchcore, riad
from diffad_jax.methods.contract import Method, Stage
from diffad_jax.methods.diffad import method as diffad

SHARED = "shared"  # folder of a work directory with the networks of all its categories
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        diffad.METHOD,
        draem.METHOD,
        riad.METHOD,
        padim.METHOD,
        patchcore.METHOD,
    )
}


def get_method(config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict) -> Method:
    """The method that the config names; ``check_config`` has made sure that it exists."""
    return METHODS[config.method]


def stage_folder(stage: Stage, config: ml_collections.FrozenConfigDict, directory: Path) -> Path:
    """Where ``stage``'s folder lies: in a category's ``directory``, or in ``SHARED`` beside it."""
    if stage.name in {s.name for s in get_method(config).shared_stages(config)}:
        return directory.parent / SHARED
    return directory


def stage_folders(config: ml_collections.FrozenConfigDict, directory: Path) -> list[Path]:
    """Those of ``stage_folder`` for all stages of a category, each once."""
    stages = get_method(config).stages(config)
    return list(dict.fromkeys(stage_folder(stage, config, directory) for stage in stages))


def sections(method: Method) -> tuple[Section, ...]:
    """All sections of a method's config."""
    return (*common.ALWAYS, *method.sections)


def default_config(name: str) -> ml_collections.ConfigDict:
    """The config of a method with every field at its default, which is not locked."""
    config = fields.defaults(sections(METHODS[name]))
    config.method = name
    return config


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for the first field that cannot be right.

    A comma list of categories becomes a tuple. A leading ~ of a path becomes the home folder.
    """
    # Benchmarks build configs where no package that reads photos is installed.
    from diffad_jax.data.layouts import LAYOUTS

    for field, choices in {"method": METHODS, "data.layout": LAYOUTS}.items():
        if (value := fields.value_of(config, field)) not in list(choices):
            raise ConfigError(f"config.{field} = {value!r}: choose one of {', '.join(choices)}")
    names = config.categories
    if isinstance(names, str):
        config.categories = tuple(n for n in names.split(",") if n)
    if not config.categories:
        raise ConfigError("config.categories is empty: name one, e.g. --config.categories=bottle")
    method = get_method(config)
    fields.check(config, sections(method))
    for name in (n for part in sections(method) for n, f in part.dotted() if f.place):
        section, _, key = name.rpartition(".")
        config[section][key] = os.path.expanduser(config[section][key])
    if config.data.recorded and not method.needs_synthesis:
        raise ConfigError(
            f"config.data.recorded = {config.data.recorded!r}: config.method = {method.name!r} "
            "learns from the photos themselves; leave it empty"
        )
    frozen_config = ml_collections.FrozenConfigDict(config)
    method.check(frozen_config)
    _check_shared(method, frozen_config)


def _check_shared(method: Method, config: ml_collections.FrozenConfigDict) -> None:
    if not config.shared:
        if config.shared_stages != "all":
            raise ConfigError(
                f"config.shared_stages = {config.shared_stages!r} needs --config.shared=True"
            )
        if config.shared_label != "none":
            raise ConfigError(
                f"config.shared_label = {config.shared_label!r} needs --config.shared=True"
            )
        return
    if not method.shared_stages(config):
        raise ConfigError(
            f"config.shared: {config.method} trains no networks that categories could share; leave "
            "it away"
        )
    names = [stage.name for stage in method.stages(config) if not stage.fit]
    if config.shared_stages not in ("all", *names):
        raise ConfigError(
            f"config.shared_stages = {config.shared_stages!r}: choose one of all, "
            f"{', '.join(names)}"
        )
    if config.data.recorded and any(not stage.fit for stage in method.own_stages(config)):
        raise ConfigError(
            f"config.data.recorded = {config.data.recorded!r}: networks that each category trains "
            "for itself would see the examples of all; leave it empty, or config.shared_stages away"
        )
    if config.shared_label == "known":
        _check_label(method, config)
    if SHARED in config.categories:
        raise ConfigError(
            f"config.categories: {SHARED!r} is the folder of the networks that all share; give the "
            "category another name"
        )


def _check_label(method: Method, config: ml_collections.FrozenConfigDict) -> None:
    told = "config.shared_label = 'known'"
    if method.of_category is None:
        raise ConfigError(f"{told}: no network of {method.name} takes a label; leave it away")
    if config.shared_stages != "all":
        raise ConfigError(
            f"{told} goes with networks that are all shared: leave config.shared_stages away"
        )
    if config.data.recorded:
        raise ConfigError(
            f"{told}: the recording {config.data.recorded} does not say which category an example "
            "shows; train from the photos, config.data.recorded=''"
        )


def require_synthesis(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError where the method learns without synthetic anomalies."""
    if not get_method(config).needs_synthesis:
        raise ConfigError(
            f"config.method = {config.method!r} learns without synthetic anomalies, so its config "
            "says nothing of them: take another one, such as configs/mvtec.py"
        )
