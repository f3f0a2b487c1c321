"""Which config a command line means, and what it is told where it means none."""

import shlex
import shutil
import subprocess

import pytest
from absl import flags

from configs import demo
from diffad_jax.commands import command_line
from diffad_jax.config import stored
from diffad_jax.errors import ConfigError
from diffad_jax.methods.registry import get_method, sections


@pytest.fixture(autouse=True)
def unparsed():
    yield
    for name in ("workdir", "mode", "completion"):
        flags.FLAGS[name].unparse()


def parse(*argv):
    return command_line.parse(["diffad", *map(str, argv)])


def kept(config, workdir, category):
    stored.write(config, sections(get_method(config)), workdir / category, category)


def test_a_recipe_with_fields_changed():
    config, mode = parse(
        "--config=demo", "--config.seed", "3", "--config.training.remat",
        "--config.segmentation.multipliers=(1,2)", "--mode=evaluate", "--config.mesh.data", "-1",
        "--noconfig.synthesis.grey_as_photo",
    )  # fmt: skip
    assert (config.seed, config.training.remat, mode) == (3, True, "evaluate")
    assert config.segmentation.multipliers == (1, 2) and config.mesh.data == -1
    assert not config.synthesis.grey_as_photo


@pytest.mark.parametrize(
    ("flag", "names"),
    [
        ("--config.categories=1", ("1",)),
        ("--config.categories=01,02", ("01", "02")),
        ("--config.categories=my part", ("my part",)),
        ("--config.categories=('a','b')", ("a", "b")),
    ],
)
def test_names_of_categories_are_text(flag, names):
    assert parse("--config=folder", flag)[0].categories == names
    assert parse(f"--config=folder:{','.join(names)}")[0].categories == names


def test_a_work_directory_is_enough(tmp_path):
    config = demo.get_config("a")
    config.diffusion.steps = 7
    kept(config, tmp_path, "a")
    kept(config, tmp_path, "b")
    found, _ = parse(f"--workdir={tmp_path}", "--mode=evaluate", "--config.data.root=new")
    assert (found.diffusion.steps, found.categories) == (7, ("a", "b"))
    assert found.data.root == "new"
    assert parse(f"--workdir={tmp_path}", "--config.categories=b")[0].categories == ("b",)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--config=FILE is missing: name a recipe"),
        (["--workdir=nowhere"], "--config=FILE is missing"),
        (["--config=nothing"], "--config=nothing: there is no such file"),
        (["--config=demo", "--config.autoencder.steps=3"], "perhaps config.autoencoder.steps is"),
        (["--config=demo", "--config.padim.dimensions=3"], "no config.padim.dimensions where"),
        (["--config=demo", "--config.data=3"], "there is no config.data where"),
        (["--config=demo", "more"], "unknown argument 'more'"),
    ],
)
def test_what_is_wrong_is_one_sentence(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message) as error:
        parse(*argv)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("argv", ["--config.image_size=big", "--wrkdir=a", "--mode=trian"])
def test_values_that_a_flag_cannot_have(argv):
    with pytest.raises(flags.Error, match=argv.split("=")[0].strip("-")):
        parse("--config=demo", argv)


def test_help_has_examples_modes_flags_and_fields(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse("--help")
    text = capsys.readouterr().out
    for part in ("diffad --workdir=", "predict", "--input", "demo, draem", "data.root = '.'"):
        assert part in text
    with pytest.raises(SystemExit, match="0"):
        parse("--help", "--config=padim")
    assert "padim.dimensions = 100" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse("--version")
    assert capsys.readouterr().out == "diffad_jax 0.1.0\n"


def test_a_pair_may_take_the_place_of_a_number():
    config, _ = parse("--config=demo", "--config.image_size=(32,64)")
    assert config.image_size == (32, 64)
    with pytest.raises(TypeError):
        config.segmentation.steps = (1, 2)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("diffad --mo", "--mode="),
        ("diffad --workdir=a --mode=tr", "train"),
        ("diffad --over", "--overwrite"),
        ("diffad --config=fol", "folder"),
        ("diffad --config.memory.p", "--config.memory.patches="),
        ("diffad --config=folder:a --workdir=a", ""),  # a path, which bash completes by itself
    ],
)
def test_bash_completes(capsys, typed, completed):
    with pytest.raises(SystemExit):
        parse("--completion=bash")
    script = capsys.readouterr().out + (
        f"\nCOMP_LINE={shlex.quote(typed)} COMP_POINT={len(typed)}; compopt() {{ :; }}\n_diffad; "
        'echo "${COMPREPLY[*]}"'
    )
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert (ran.stdout.strip(), ran.stderr) == (completed, "")
