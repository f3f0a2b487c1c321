"""Config fields: default, comment, choices and range in one place, and who reads the field.

The check at start-up, the fingerprint of weights and the page of all fields are made from here.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import ml_collections

from diffad_jax.errors import ConfigError

Config = ml_collections.ConfigDict | ml_collections.FrozenConfigDict

# What depends on a field.
WEIGHTS = "weights"  # another value needs other weights
LENGTH = "length"  # a larger value trains on
PREDICTION = "prediction"  # read by what comes after training; locks no weights
RUN = "run"  # how and where the work is done

DOWNLOAD = "download"  # in place of a path: the file is fetched

SHARE, COUNT, NATURAL, POSITIVE = "[0, 1]", "[1, inf)", "[0, inf)", "(0, inf)"


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a config.

    Attributes:
      default: has the field's type; the items of a tuple have theirs.
      comment: what the field is, in a line.
      range: an interval such as "[0, 1)", for a number or for each item of a tuple.
      choices: all values that it can have.
      use: what depends on it: WEIGHTS, LENGTH, PREDICTION or RUN.
      pair: two items, the first not above the second.
      empty: whether a tuple may have no items.
      odd: whether the value must be odd.
      place: the value is a path, or DOWNLOAD. The file's content matters, not its place.
      or_pair: a pair of such numbers is also allowed.
    """

    default: Any
    comment: str
    range: str = ""
    choices: tuple = ()
    use: str = WEIGHTS
    pair: bool = False
    empty: bool = False
    odd: bool = False
    place: bool = False
    or_pair: bool = False

    def complaint(self, value: Any) -> str:
        """The fault of a value, as the end of a sentence; empty if it has none."""
        if self.choices:
            known = value in self.choices
            return "" if known else f"choose one of {', '.join(map(str, self.choices))}"
        if not isinstance(self.default, tuple):
            several = self.or_pair and isinstance(value, tuple | list)
            if several and len(value) != 2:
                return "must be one number or two"
            values = value if several else [value]
            return next(filter(None, (self._complaint_of_one(v, self.default) for v in values)), "")
        if not isinstance(value, tuple | list):
            return "must be a tuple"
        if not value and not self.empty:
            return "must name one at least"
        example = self.default[0] if self.default else ""
        for item in value:
            if complaint := self._complaint_of_one(item, example):
                return f"each {complaint}"
        if self.pair and not (len(value) == 2 and value[0] <= value[1]):
            return f"must be two numbers that rise{self._within()}"
        return ""

    def _complaint_of_one(self, value: Any, example: Any) -> str:
        wanted = type(example)
        if isinstance(value, bool) != (wanted is bool) or not isinstance(
            value, (int, float) if wanted is float else wanted
        ):
            return f"must be {_TYPES[wanted]}"
        if self.range and not _contains(self.range, value):
            return f"must {in_words(self.range, wanted is float)}"
        return "must be odd" if self.odd and value % 2 == 0 else ""

    def _within(self) -> str:
        low, high, _, _ = _parsed(self.range)
        return f" within {low:g} … {high:g}" if math.isfinite(high) else ""


class Section(NamedTuple):
    """Fields that stand together. Several sections of one name are one in the config."""

    name: str  # "" for the fields of the config itself
    comment: str
    fields: dict[str, Field]
    check: Callable[[Config], None] = lambda config: None  # of several fields, after each of them

    def dotted(self) -> Iterator[tuple[str, Field]]:
        """Its fields by their names in the config, such as ``data.root``."""
        for name, field in self.fields.items():
            yield f"{self.name}.{name}" if self.name else name, field

    def only(self, *names: str) -> "Section":
        """The same section with these fields alone."""
        return self._replace(fields={n: self.fields[n] for n in names})

    def locking(self, *names: str) -> "Section":
        """The same section, where weights depend on these fields, too."""
        locked = {n: dataclasses.replace(self.fields[n], use=WEIGHTS) for n in names}
        return self._replace(fields=self.fields | locked)


def section(name: str, comment: str, check: Callable | None = None, /, **fields: Field) -> Section:
    """A section, its fields as keywords."""
    return Section(name, comment, fields, check) if check else Section(name, comment, fields)


def defaults(sections: Iterable[Section]) -> ml_collections.ConfigDict:
    """A config with every field at its default, which is not locked."""
    # A pair may take the place of a number; ``check`` names types that cannot be.
    config = ml_collections.ConfigDict(type_safe=False)
    for part in sections:
        if part.name and part.name not in config:
            config[part.name] = ml_collections.ConfigDict()
        (config[part.name] if part.name else config).update(
            {name: field.default for name, field in part.fields.items()}
        )
    return config


def check(config: Config, sections: Iterable[Section]) -> None:
    """Raises ConfigError for the first field that is missing or cannot be right."""
    sections = tuple(sections)
    for part in sections:
        for name, field in part.dotted():
            value = value_of(config, name)
            if complaint := field.complaint(value):
                shown = " ".join(repr(value).split())
                raise ConfigError(f"config.{name} = {shown}: {complaint}")
    for part in sections:
        part.check(config)


def value_of(config: Config, name: str) -> Any:
    """The value of a dotted field.

    Raises:
      ConfigError: the config has no such field.
    """
    found = config
    for part in name.split("."):
        if part not in found:
            raise ConfigError(
                f"config.{name} is missing, which config.method = {config.method!r} needs: begin "
                "with that method's file in configs"
            )
        found = found[part]
    return found


def in_words(interval: str, finite: bool = False) -> str:
    """An interval as the end of a sentence: "lie in 0 … 1", "be 1 or more"."""
    low, high, above, below = _parsed(interval)
    first, last = (f"{end:.0f}" if float(end).is_integer() else f"{end:g}" for end in (low, high))
    if math.isinf(high):
        return f"be {f'above {first}' if above else f'{first} or more'}{', and finite' * finite}"
    ends = [f"above {first}"] * above + [f"below {last}"] * below
    return f"lie in {first} … {last}" + (f", {' and '.join(ends)}" if ends else "")


def _parsed(interval: str) -> tuple[float, float, bool, bool]:
    """Both ends, and whether each is left out."""
    low, high = map(float, interval[1:-1].split(","))
    return low, high, interval[0] == "(", interval[-1] == ")"


def _contains(interval: str, value: float) -> bool:
    low, high, above, below = _parsed(interval)
    return (value > low if above else value >= low) and (value < high if below else value <= high)


_TYPES = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
