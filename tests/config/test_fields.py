"""Each field of every method: its default holds, and what cannot be right is named before work."""

import math
from pathlib import Path

import absl.flags
import ml_collections
import pytest

from diffad_jax.commands import command_line, fields_page
from diffad_jax.config import fields, recipes, stored
from diffad_jax.config.fields import Field
from diffad_jax.errors import ConfigError
from diffad_jax.methods.registry import METHODS, check_config, default_config, sections

ALL = [
    (name, field, spec)
    for name, method in METHODS.items()
    for part in sections(method)
    for field, spec in part.dotted()
]
IDS = [f"{name}-{field}" for name, field, _ in ALL]


def config_of(method) -> ml_collections.ConfigDict:
    config = default_config(method)
    config.categories = ("tiles",)
    return config


def refused(method, field, value):
    """The sentence; the type of a field may be what ml_collections itself refuses."""
    config = config_of(method)
    section, _, name = field.rpartition(".")
    holder = config[section] if section else config
    with holder.ignore_type(), pytest.raises(ConfigError) as error:
        holder[name] = value
        check_config(config)
    message = str(error.value)
    assert f"config.{field} = " in message or f"config.{field} is" in message, message
    assert "\n" not in message and len(message) < 300
    return message


def outside(spec: Field):
    """A value below, above and beside the range of a numeric field."""
    low, high, above, below = fields._parsed(spec.range)
    step = 1 if isinstance(example(spec), int) else 1e-3
    yield low if above else low - step
    if math.isfinite(high):
        yield high if below else high + step
    if isinstance(example(spec), float):
        yield from (math.nan, math.inf, -math.inf)


def example(spec: Field):
    if isinstance(spec.default, tuple):
        return spec.default[0] if spec.default else ""
    return spec.default


def is_numeric(spec: Field) -> bool:
    return isinstance(example(spec), int | float) and not isinstance(example(spec), bool)


@pytest.mark.parametrize("method", METHODS)
def test_defaults_hold(method):
    check_config(config_of(method))


@pytest.mark.parametrize(("method", "field", "spec"), ALL, ids=IDS)
def test_what_cannot_be_right_is_named(method, field, spec):
    assert spec.comment and len(spec.comment) < 100
    of_one = (lambda v: (v, *spec.default[1:])) if isinstance(spec.default, tuple) else lambda v: v
    if spec.choices:
        nonsense = "nonsense" if isinstance(spec.default, str) else 3
        message = refused(method, field, nonsense)
        assert all(str(choice) in message for choice in spec.choices)
    elif is_numeric(spec):
        assert spec.range, "a number without a range"
        for value in outside(spec):
            refused(method, field, of_one(value))
    refused(method, field, None)
    if isinstance(spec.default, tuple):
        refused(method, field, of_one(None))
        if not spec.empty:
            refused(method, field, ())


@pytest.mark.parametrize(
    ("method", "field", "value", "message"),
    [  # each passed once, some of them until after training
        ("diffad", "evaluation.smoothing", -1, "= -1: must be 1 or more"),
        ("diffad", "mesh.fsdp", 0, "= 0: must be 1 or more"),
        ("diffad", "mesh.data", 0, "= 0: must be 1 or more, or -1"),
        ("padim", "padim.smoothing_sigma", 0.0, "= 0.0: must be above 0, and finite"),
        ("patchcore", "patchcore.bank_share", 0.0, "must lie in 0 … 1, above 0"),
        ("diffad", "autoencoder.dropout", 1.5, "= 1.5: must lie in 0 … 1, below 1"),
        ("diffad", "autoencoder.warmup_steps", -1, "= -1: must be 0 or more"),
        ("diffad", "training.gradient_clip", -1.0, "must be 0 or more, and finite"),
        ("diffad", "autoencoder.betas", (0.5, 0.9, 0.9), "must be two numbers that rise"),
        ("diffad", "diffusion.beta_start", 0.5, "must not be above config.diffusion.beta_end"),
        ("riad", "riad.multipliers", (1, 0), "each must be 1 or more"),
        ("padim", "backbone.layers", ("conv_4", 3), "each must be text"),
        ("diffad", "data.layout", "heap", "choose one of mvtec"),
        ("diffad", "method", "magic", "choose one of diffad"),
        ("diffad", "data.root", 3, "must be text"),
        ("padim", "data.recorded", "a.zip", "'padim' learns from the photos themselves"),
        ("diffad", "training.remat", 1, "must be True or False"),
    ],
)
def test_sentences(method, field, value, message):
    assert message in refused(method, field, value)


def test_a_missing_field_is_named():
    config = config_of("padim")
    del config.padim.dimensions
    with pytest.raises(ConfigError, match="config.padim.dimensions is missing"):
        check_config(config)


def test_intervals_in_words():
    assert fields.in_words("[0, 1]") == "lie in 0 … 1"
    assert fields.in_words("(0, 1)") == "lie in 0 … 1, above 0 and below 1"
    assert fields.in_words("[1, inf)") == "be 1 or more"
    assert fields.in_words("(0, inf)", finite=True) == "be above 0, and finite"


def test_no_field_is_declared_twice():
    for method in METHODS.values():
        names = [field for part in sections(method) for field, _ in part.dotted()]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_say_nothing_that_is_no_field(name):
    config = recipes.load(f"configs/{name}.py:tiles")
    declared = {f for part in sections(METHODS[config.method]) for f, _ in part.dotted()}
    assert declared == set(stored.flat(config))


def test_the_page_of_all_fields_is_that_of_the_code():
    """python -m diffad_jax.commands.fields_page > docs/fields.md"""
    page = Path(__file__).parents[2] / "docs" / "fields.md"
    assert page.read_text(encoding="utf-8") == fields_page.page() + "\n"


@pytest.mark.parametrize("method", METHODS)
def test_a_path_may_begin_at_home(method, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = config_of(method)
    places = [n for part in sections(METHODS[method]) for n, f in part.dotted() if f.place]
    for name in places:
        if name != "data.recorded":
            section, _, key = name.rpartition(".")
            config[section][key] = "~/somewhere"
    check_config(config)
    for name in places:
        assert fields.value_of(config, name) in ("", "/home/me/somewhere")
    assert config.data.root == "/home/me/somewhere"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1", ("1",)),
        ("01,02", ("01", "02")),
        ("my part", ("my part",)),
        ("my part,2", ("my part", "2")),
        ("('a, b',)", ("a, b",)),
        ("(1, 2)", ("1", "2")),
        ("None", ("None",)),
    ],
)
def test_categories_of_any_name(text, names):
    command = ["diffad", "--config=folder", f"--config.categories={text}"]
    config, _ = command_line.parse(command)
    check_config(config)
    assert config.categories == names


@pytest.mark.parametrize(
    ("flag", "said"),
    [("--workdir=\udcff", "no UTF-8"), ("--workdir=~nobody-at-all/a", "no home folder is known"),
     ("--output=~nobody-at-all/a", "no home folder is known")],
)  # fmt: skip
def test_paths_that_cannot_be(flag, said):
    with pytest.raises(absl.flags.Error, match=said):
        command_line.parse(["diffad", "--config=folder", flag])
