"""The command line: the config that it names, and the text of ``--help``."""

import ast
import collections
import difflib
import re
import sys
from collections.abc import Sequence

import ml_collections
from absl import flags
from ml_collections import config_flags

import diffad_jax
from diffad_jax.commands import completion
from diffad_jax.commands.modes import MODES, bring_here
from diffad_jax.config import recipes, stored
from diffad_jax.errors import ConfigError
from diffad_jax.export import artifact, registry
from diffad_jax.methods.registry import get_method, sections
from diffad_jax.runtime import console
from diffad_jax.runtime.mirror import Mirrors

_MODE = flags.DEFINE_enum("mode", "train", list(MODES), "what to do, see above")
_COMPLETION = flags.DEFINE_enum(
    "completion", None, ["bash"], "print what completes options: source <(diffad --completion=bash)"
)
_HELP = """diffad: finds defects on photos of surfaces.

  diffad --config=folder:bottles --config.data.root=PHOTOS --workdir=runs/mine
  diffad --workdir=runs/mine --mode=predict --input=NEW_PHOTOS --output=OUT
  diffad --workdir=runs/mine --mode=evaluate
  diffad --config=folder:bottles --config.data.root=PHOTOS --mode=inspect --output=OUT
  diffad --config=demo --workdir=runs/demo

--config=FILE[:CATEGORIES]  a recipe: a file of the current folder, else one of
                            {recipes}
                            After training --workdir is enough: it remembers its config.
--config.FIELD=VALUE        changes a field; they are listed below
--mode=MODE                 train, unless another one is given:
{modes}
{flags}

The fields of --config={name}, with their values (other recipes: --help --config=FILE):
{fields}"""


def parse(
    argv: Sequence[str], mirrors: Mirrors | None = None
) -> tuple[ml_collections.ConfigDict, str]:
    """The config and the mode that a command line asks for; sets absl's flags.

    Prints and ends the program for --help and --version. Where a work directory or an output is in
    object storage, ``mirrors`` gets it, and the flag becomes the local copy.

    Raises:
      ConfigError: the config cannot be found, or a field does not exist.
      MirrorError: the storage cannot be reached, or refuses.
      flags.Error: a flag does not exist, or cannot have its value.
    """
    argv = flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False)
    of_config, rest = _split(argv)
    values = {n: v for n, _, v in (a.lstrip("-").partition("=") for a in of_config)}
    method = values.get("config.method", "")
    if "--version" in rest:
        console.say(f"diffad_jax {diffad_jax.__version__}")
        sys.exit(0)
    if {"--help", "-h", "--helpshort", "--helpfull"} & set(rest):
        console.say(help_text(values.get("config") or "folder", method))
        sys.exit(0)
    left = flags.FLAGS(rest)
    if len(left) > 1:
        raise ConfigError(f"unknown argument {left[1]!r}; every option begins with --")
    if mirrors is not None:
        bring_here(mirrors, _MODE.value)
    if _COMPLETION.value:
        console.say(_completion(values.get("config") or "folder", method))
        sys.exit(0)
    names = _names(values.pop("config.categories", ""))
    if name := values.pop("config", ""):
        config = recipes.load(name, method)
    elif (workdir := flags.FLAGS.workdir) and (exported := registry.exported(workdir)):
        cards = [folder / artifact.CARD for folder in exported.values()]
        config = stored.of_cards(cards, names)
    elif workdir and workdir.is_dir():
        config = stored.of_workdir(workdir, names)
    else:
        raise ConfigError(
            "--config=FILE is missing: name a recipe, such as --config=folder:CATEGORY, or a "
            "--workdir in which something was trained. --help shows examples"
        )
    if names:
        config.categories = names
    overrides = [a for a in of_config if a.lstrip("-").partition("=")[0] in values]
    return _overridden(config, overrides), _MODE.value


def help_text(name: str, method: str = "") -> str:
    """The text of --help: examples, modes, flags, and the fields of one recipe's config."""
    config = recipes.load(name, method)
    values = stored.flat(config)
    return _HELP.format(
        recipes=", ".join(recipes.names()),
        name=name,
        modes="\n".join(f"    {n:<23} {mode.help}" for n, mode in MODES.items()),
        flags="\n".join(f"--{f.name:<25} {f.help}" for f in _own() if f.name != "mode"),
        fields="\n".join(
            f"  {field} = {values[field]!r}  # {spec.comment}"
            for part in sections(get_method(config))
            for field, spec in part.dotted()
        ),
    )


def _own() -> list[flags.Flag]:
    by_module = flags.FLAGS.flags_by_module_dict()
    return [f for module, found in by_module.items() if "diffad_jax" in module for f in found]


def _completion(name: str, method: str) -> str:
    own, known = _own(), stored.flat(recipes.load(name, method))
    values = {f"--{f.name}=": f.parser.enum_values for f in own if hasattr(f.parser, "enum_values")}
    options = ["--help", "--version", "--config="]
    options += [f"--{f.name}{'' if f.boolean else '='}" for f in own]
    options += [f"--config.{field}=" for field in known]
    return completion.bash(options, values | {"--config=": recipes.names()})


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags of the config, each with its value behind a "=", and all other arguments."""
    found, rest, queue = [], [], collections.deque(argv)
    while queue:
        argument = queue.popleft()
        if not re.match(r"--?(no)?config(\.|=|$)", argument):
            rest.append(argument)
            continue
        if "=" not in argument and queue and not re.match(r"--?[a-z]", queue[0]):
            argument = f"{argument}={queue.popleft()}"
        found.append(argument)
    return found, rest


def _names(text: str) -> tuple[str, ...]:
    """Names of categories, from "a,b" or "('a', 'b')"."""
    if text.startswith("("):
        return tuple(map(str, ast.literal_eval(text)))
    return tuple(name for name in text.split(",") if name)


def _overridden(
    config: ml_collections.ConfigDict, overrides: Sequence[str]
) -> ml_collections.ConfigDict:
    known = stored.flat(config)
    for argument in overrides:
        name, _, value = argument.partition("=")
        field = re.sub(r"^--?(no)?config\.", "", name)
        if field not in known:
            near = difflib.get_close_matches(field, known, 1, 0.75)
            said = [f"perhaps config.{name} is meant" for name in near]
            raise ConfigError(
                f"there is no config.{field} where config.method = {config.method!r}: "
                f"{[*said, '--help lists all fields'][0]}"
            )
        if "." not in field and value.startswith("(") and isinstance(known[field], int):
            config[field] = ()  # a pair may take the place of a number, and is parsed as such
    of_config = flags.FlagValues()
    argv = ["", *overrides]
    holder = config_flags.DEFINE_config_dict("config", config, flag_values=of_config, sys_argv=argv)
    of_config(argv)
    return holder.value
