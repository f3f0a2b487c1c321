"""A category's folder keeps the config that it was trained with."""

import json

import pytest

from configs import demo, mvtec_small, padim
from diffad_jax.config import stored
from diffad_jax.errors import ConfigError
from diffad_jax.methods.registry import check_config, get_method, sections


def keep(config, workdir, category):
    stored.write(config, sections(get_method(config)), workdir / category, category)


def test_what_was_written_is_read(tmp_path):
    config = mvtec_small.get_config("a")
    keep(config, tmp_path, "a")
    found = stored.of_workdir(tmp_path, [])
    check_config(found)
    assert stored.flat(found) == stored.flat(config)


def test_photos_are_found_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    config = mvtec_small.get_config("a")
    config.data.root = "photos"
    keep(config, tmp_path / "run", "a")
    (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    found = stored.of_workdir(tmp_path / "moved", [])
    assert found.data.root == str(tmp_path / "photos")
    assert found.data.textures == "procedural"


def test_all_categories_or_those_that_are_named(tmp_path):
    for name in ("b", "a", "1"):
        keep(demo.get_config(name), tmp_path, name)
    assert stored.of_workdir(tmp_path, []).categories == ("1", "a", "b")
    assert stored.of_workdir(tmp_path, ["b"]).categories == ("b",)
    with pytest.raises(ConfigError, match="holds no config.json: nothing was trained there"):
        stored.of_workdir(tmp_path, ["c"])


def test_categories_that_were_not_trained_alike_are_named(tmp_path):
    config = demo.get_config("a")
    keep(config, tmp_path, "a")
    config.seed = 1
    keep(config, tmp_path, "b")
    with pytest.raises(ConfigError, match="not trained alike: config.seed differs. Name one"):
        stored.of_workdir(tmp_path, [])


def test_differences_are_named_by_what_they_cost(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where `make demo` has drawn no photos
    config = demo.get_config("a")
    assert stored.differences(config, sections(get_method(config)), tmp_path / "a") == ([], [])
    keep(config, tmp_path, "a")
    config.diffusion.steps, config.evaluation.smoothing = 20, 5
    config.normal_level.floor, config.data.root = 0.5, "elsewhere"
    locking, free = stored.differences(config, sections(get_method(config)), tmp_path / "a")
    assert locking == ["config.diffusion.steps = 20, trained with 500"]
    assert sorted(free) == [
        "config.data.root = 'elsewhere', trained with 'runs/toy_data'",
        "config.evaluation.smoothing = 5, trained with 11",
        "config.normal_level.floor = 0.5, trained with 0.1",
    ]


def test_a_folder_of_another_method_is_refused(tmp_path):
    stored.refuse_other_method(demo.get_config("a"), tmp_path / "a")
    keep(demo.get_config("a"), tmp_path, "a")
    stored.refuse_other_method(demo.get_config("a"), tmp_path / "a")
    with pytest.raises(ConfigError, match="holds a detector of config.method = 'diffad', not 'pa"):
        stored.refuse_other_method(padim.get_config("a"), tmp_path / "a")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "3"])
def test_a_damaged_one_is_named(text, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="cannot read .*config.json"):
        stored.of_workdir(tmp_path, [])


def test_fields_that_an_earlier_version_did_not_have_are_off(tmp_path):
    config = mvtec_small.get_config("a")
    keep(config, tmp_path, "a")
    file = tmp_path / "a" / "config.json"
    content = json.loads(file.read_text())
    del content["autoencoder"]["window"], content["shared_label"], content["shared"]
    file.write_text(json.dumps(content))
    assert stored.flat(stored.of_workdir(tmp_path, [])) == stored.flat(config)
