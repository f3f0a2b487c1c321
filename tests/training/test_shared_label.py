"""Networks that several categories share, and that are told which of them they rebuild."""

import itertools
import shutil

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from conftest import TINY

from configs import draem, mvtec_small
from diffad_jax.commands import train
from diffad_jax.commands.adopt import adopt
from diffad_jax.data import labels
from diffad_jax.errors import UserError
from diffad_jax.inference import products
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.diffad import label, networks
from diffad_jax.methods.registry import check_config
from diffad_jax.training.fingerprint import weights_hash


@pytest.fixture
def config(together):
    together.shared_label = "known"
    return together


@pytest.fixture
def work(config, shared):
    """The work directory, trained once for all tests; read it, change a copy."""

    def make(folder):
        train.train_shared(config, folder, None, train.How())

    return shared("together_labelled", make)


def denoiser_of(workdir, config, category):
    detector = Detector.from_workdir(config, workdir, category)
    return detector.weights["denoiser"]["params"]


def test_each_detector_rebuilds_its_own_product_with_the_same_networks(config, work):
    tiles, lamps = (denoiser_of(work, config, name) for name in config.categories)
    assert "label" not in tiles
    differing = [
        jax.tree_util.keystr(path)
        for (path, one), other in zip(
            jax.tree_util.tree_leaves_with_path(tiles), jax.tree.leaves(lamps), strict=True
        )
        if not np.array_equal(one, other)
    ]
    assert differing == ["['time_1']['bias']"]
    for category, detector in products.load(config, work).items():
        alone = Detector.from_workdir(config, work, category)
        assert detector.weights_hash == alone.weights_hash


def test_killed_in_the_middle_it_ends_as_if_never_stopped(
    config, work, tmp_path, dies_after_saving
):
    with dies_after_saving(lambda folder: folder.name == "denoiser"):
        train.train_shared(config, tmp_path, None, train.How())
    assert {p.name for p in (tmp_path / "shared/denoiser").glob("[0-9]")} == {"2"}
    train.train_shared(config, tmp_path, None, train.How())
    for category in config.categories:
        killed, once = (Detector.from_workdir(config, w, category) for w in (tmp_path, work))
        assert killed.weights_hash == once.weights_hash


def test_a_denoiser_answers_by_the_label_and_a_detectors_keeps_its_own():
    config = mvtec_small.get_config("tiles")
    config.update_from_flattened_dict(TINY)
    network = networks.denoiser(ml_collections.FrozenConfigDict(config))
    height, width, channels = networks.latent_shape(config)
    latents = jax.random.normal(jax.random.key(0), (2, height, width, 2 * channels))
    t = jnp.array([3, 7])
    codes = {name: jnp.stack(2 * [labels.code(name)]) for name in ("tiles", "lamps")}
    params = jax.jit(network.init)(jax.random.key(1), latents, t, codes["tiles"])["params"]
    keys = iter(jax.random.split(jax.random.key(2), len(jax.tree.leaves(params))))
    # Some begin at zero, and would hide what comes before them.
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), params)
    answer = jax.jit(network.apply)
    tiles, lamps = (answer({"params": params}, latents, t, code) for code in codes.values())
    assert np.abs(tiles - lamps).mean() > 1e-3
    for name, wanted in (("tiles", tiles), ("lamps", lamps)):
        own = label.of_category({"denoiser": {"params": params}}, name)["denoiser"]
        np.testing.assert_allclose(answer(own, latents, t), wanted, atol=1e-5)


def test_an_example_has_its_categorys_label_from_any_step_on_and_in_any_process():
    empty = itertools.repeat({})
    codes = [labels.code(name) for name in ("coins", "lamps", "tiles")]
    for first, second in itertools.combinations(codes, 2):
        assert np.linalg.norm(first) == pytest.approx(1.0) and abs(first @ second) < 0.5

    def found(*place):
        of_batches = labels.labelled(empty, ("coins", "lamps", "tiles"), 4, *place)
        return np.stack([batch["label"] for batch in itertools.islice(of_batches, 3)])

    whole = np.stack([codes[i % 3] for i in range(12)]).reshape(3, 4, -1)
    np.testing.assert_array_equal(found(), whole)
    np.testing.assert_array_equal(found(3), whole)  # 12 examples are four turns
    np.testing.assert_array_equal(found(1)[:2], whole[1:])
    np.testing.assert_array_equal(found(0, 1, 2), whole[:, 2:])


def test_what_knows_no_label_is_refused(config, work, tmp_path):
    with pytest.raises(UserError, match=r"learned no label of coins: train on .*coins,lamps,tiles"):
        adopt(config.copy_and_resolve_references(), work, "coins")
    config.shared_stages = "denoiser"
    with pytest.raises(UserError, match="leave config.shared_stages away"):
        check_config(config)
    config.shared_stages, config.data.recorded = "all", "examples.zip"
    with pytest.raises(UserError, match="recording examples.zip does not say which category"):
        check_config(config)
    config.shared, config.data.recorded = False, ""
    with pytest.raises(UserError, match="'known' needs --config.shared=True"):
        check_config(config)
    other = draem.get_config("tiles")
    other.shared, other.shared_label = True, "known"
    with pytest.raises(UserError, match="no network of draem takes a label"):
        check_config(other)


def test_weights_of_other_labels_are_refused(config, work, tmp_path):
    config.shared_label = "none"
    with pytest.raises(UserError, match=r"config\.shared_label = 'known', not 'none'"):
        train.train_and_evaluate(config, work, None)
    copy = shutil.copytree(work, tmp_path / "work")
    for kept in copy.glob("*/config.json"):
        kept.unlink()
    with pytest.raises(UserError, match=r"shared_label: known there, \(absent\) here"):
        Detector.from_workdir(config, copy, "tiles")


def test_a_category_is_added_with_a_label_of_its_own(config, work, tmp_path):
    work = shutil.copytree(work, tmp_path / "work")
    config.categories = ("tiles", "lamps", "coins")
    train.train_shared(config, work, None, train.How(finetune=True))
    biases = [denoiser_of(work, config, c)["time_1"]["bias"] for c in config.categories]
    assert len({weights_hash(bias) for bias in biases}) == 3
