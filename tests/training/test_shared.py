"""Several categories with one set of networks: trained, killed, recorded, trained on."""

import json
import shutil
from pathlib import Path

import ml_collections
import numpy as np
import pytest

from configs import mvtec_small, padim
from diffad_jax.commands import record, train
from diffad_jax.commands.adopt import adopt
from diffad_jax.config import stored
from diffad_jax.data import recorded
from diffad_jax.errors import UserError
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.registry import check_config, get_method
from diffad_jax.training.checkpoint import Checkpoints
from diffad_jax.training.fingerprint import BEGUN_FROM, PHOTOS, weights_hash

NETWORKS = ("autoencoder", "denoiser", "segmenter")


@pytest.fixture
def config(together):
    return together


@pytest.fixture
def work(together_trained):
    return together_trained


def hashes(config, workdir: Path) -> list[str]:
    return [Detector.from_workdir(config, workdir, c).weights_hash for c in config.categories]


def test_the_networks_lie_once_and_what_is_fitted_behind_them_is_each_ones_own(config, work):
    assert {p.parent.name for p in work.glob("shared/*/4")} == {*NETWORKS}
    assert {p.parent.parent.name for p in work.glob("*/normal_level/1")} == {"tiles", "lamps"}
    tiles, lamps = (Detector.from_workdir(config, work, c).weights for c in config.categories)
    for name in NETWORKS:
        assert weights_hash(tiles[name]) == weights_hash(lamps[name])
    assert weights_hash(tiles["normal_level"]) != weights_hash(lamps["normal_level"])
    assert json.loads((work / "metrics.json").read_text())["categories"].keys() == {
        "tiles", "lamps"
    }  # fmt: skip
    assert stored.of_workdir(work, ()).categories == ("lamps", "tiles")


def test_a_second_call_trains_nothing_in_whatever_order_they_are_named(config, work, tmp_path):
    shutil.copytree(work, tmp_path / "work")
    before = (work / "shared/metrics.jsonl").read_text()
    config.categories = ("lamps", "tiles")
    train.train_and_evaluate(config, tmp_path / "work", None)
    assert (tmp_path / "work/shared/metrics.jsonl").read_text() == before
    assert hashes(config, tmp_path / "work") == hashes(config, work)


def test_killed_in_the_middle_it_ends_as_if_never_stopped(
    config, work, tmp_path, dies_after_saving
):
    with dies_after_saving(lambda folder: folder.name == "denoiser"):
        train.train_and_evaluate(config, tmp_path, None)
    assert {p.name for p in (tmp_path / "shared/denoiser").glob("[0-9]")} == {"2"}
    train.train_and_evaluate(config, tmp_path, None)
    assert hashes(config, tmp_path) == hashes(config, work)


def test_the_first_networks_alone_may_be_shared_and_a_kill_changes_nothing(
    config, work, tmp_path, dies_after_saving
):
    config.shared_stages = "denoiser"
    once, killed = tmp_path / "once", tmp_path / "killed"
    for place in (once, killed):  # what is shared comes out as it does where all is
        for name in ("trained_on.json", "autoencoder", "denoiser"):
            copy = shutil.copytree if (work / "shared" / name).is_dir() else shutil.copy
            (place / "shared").mkdir(parents=True, exist_ok=True)
            copy(work / "shared" / name, place / "shared" / name)
    train.train_shared(config, once, None, train.How())
    assert {p.parent.name for p in once.glob("lamps/*/4")} == {"segmenter"}

    with dies_after_saving(lambda folder: folder.parent.name == "lamps"):
        train.train_shared(config, killed, None, train.How())
    assert {p.name for p in killed.glob("*/segmenter/[0-9]")} == {"2", "4"}
    train.train_shared(config, killed, None, train.How())
    assert hashes(config, once) == hashes(config, killed)
    tiles, lamps = (Detector.from_workdir(config, once, c).weights for c in config.categories)
    assert weights_hash(tiles["denoiser"]) == weights_hash(lamps["denoiser"])
    assert weights_hash(tiles["segmenter"]) != weights_hash(lamps["segmenter"])
    with pytest.raises(UserError, match="each category .* trains segmenter for itself"):
        adopt(config, once, "coins")


def test_what_is_shared_ends_with_the_stage_that_is_named(config):
    def names(last):
        config.shared_stages = last
        frozen = ml_collections.FrozenConfigDict(config)
        return [stage.name for stage in get_method(config).shared_stages(frozen)]

    config.autoencoder.exposure = 0.45
    assert names("autoencoder") == ["light", "autoencoder"]
    assert names("all") == ["light", *NETWORKS] == names("segmenter")
    config.shared = False
    assert names("all") == []


def test_a_recording_holds_as_many_examples_of_each(config, tmp_path):
    path = tmp_path / "two.zip"
    record.record(config, path, 8)
    recording = recorded.Recording(path)
    assert all(name.startswith("lamps/") for name in recording.photos("lamps").train)
    upper = [int(recording.example("train", i)["image"][0].mean()) for i in range(8)]
    assert (np.array(upper[::2]) < np.array(upper[1::2])).all()  # tiles are darker there
    config.data.recorded = str(path)
    train.train_shared(config, tmp_path / "work", None, train.How())
    assert (tmp_path / "work/lamps/normal_level/1").is_dir()
    config.categories, config.shared = ("tiles",), False
    with pytest.raises(UserError, match="with categories = lamps, tiles, the config says tiles"):
        train.train_category(config, tmp_path / "alone/tiles", "tiles", None)


def test_a_new_category_is_learned_beside_those_before(config, work, tmp_path):
    work, before = shutil.copytree(work, tmp_path / "work"), hashes(config, work)
    config.categories = ("tiles", "lamps", "coins")
    with pytest.raises(UserError, match="trained on lamps, tiles, without coins: .*--finetune"):
        train.train_and_evaluate(config, work, None)
    config.categories = ("coins",)
    with pytest.raises(UserError, match="are those of lamps, tiles, too: name all"):
        train.train_and_evaluate(config, work, None, finetune=True)
    config.categories = ("tiles", "lamps", "coins")
    train.train_and_evaluate(config, work, None, finetune=True)
    after = hashes(config, work)
    assert not {*before} & {*after} and len({*after}) == 3
    checkpoints = Checkpoints(work / "shared/denoiser")
    made_of = checkpoints.fingerprint(4)
    checkpoints.close()
    assert [part.split(":")[0] for part in made_of[PHOTOS].split("; ")] == [
        "coins", "lamps", "tiles"
    ]  # fmt: skip
    assert "step 4, lamps: " in made_of[BEGUN_FROM]
    assert json.loads((work / "metrics_1.json").read_text())["categories"].keys() == {
        "tiles", "lamps"
    }  # fmt: skip


def test_what_shares_no_networks_and_what_would_lie_among_them_is_refused(config, work):
    alone = padim.get_config("tiles")
    alone.shared = True
    with pytest.raises(UserError, match="padim trains no networks that categories could share"):
        check_config(alone)
    config.shared_stages = "encoder"
    with pytest.raises(UserError, match="choose one of all, autoencoder, denoiser, segmenter"):
        check_config(config)
    config.shared_stages, config.data.recorded = "autoencoder", "examples.zip"
    with pytest.raises(UserError, match="would see the examples of all"):
        check_config(config)
    config.shared_stages, config.data.recorded = "all", ""
    other = mvtec_small.get_config("shared,tiles")
    other.shared = True
    with pytest.raises(UserError, match="'shared' is the folder of the networks"):
        check_config(other)
    config.shared = False
    with pytest.raises(UserError, match=r"holds a detector of config\.shared = True, not False"):
        train.train_and_evaluate(config, work, None)


def test_categories_of_two_bit_depths_are_not_trained_together(config):
    deep = config.copy_and_resolve_references()
    config.data.bit_depth, deep.data.bit_depth = 8, 12
    with pytest.raises(UserError, match="photos fill 8 and 12 bits a channel"):
        train._one_config([config, deep])
