"""DRAEM and RIAD as stages and as methods."""

import functools
import importlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from diffad_jax.convert import names, translate
from diffad_jax.convert.errors import ConvertError
from diffad_jax.convert.importer import import_file
from diffad_jax.inference.detector import Detector
from diffad_jax.methods import draem, losses, riad, similarity
from diffad_jax.types import to_float

SMALL = {
    "draem": {"reconstructor_channels": 8, "reconstructor_multipliers": (1, 2),
              "segmenter_channels": 8, "segmenter_multipliers": (1, 2), "patch_size": 2},
    "riad": {"channels": 8, "multipliers": (1, 2), "square_sizes": (2, 4),
             "patch_size": 1, "batch_size": 4},
}  # fmt: skip


def config(method, **changes):
    c = importlib.import_module(f"configs.{method.NAME}_small").get_config("tiles")
    c.image_size, c.evaluation.smoothing = 16, 3
    c[method.NAME].update(SMALL[method.NAME] | {"steps": 30, "warmup_steps": 1} | changes)
    return ml_collections.FrozenConfigDict(c)


@functools.cache
def batch():
    rng = np.random.default_rng(0)
    image = np.broadcast_to(np.arange(0, 160, 10)[:, None, None], (4, 16, 16, 3)).astype(np.uint8)
    mask = np.zeros((4, 16, 16, 1), np.uint8)
    mask[:2, 3:9, 4:12] = 1
    noise = rng.integers(0, 256, image.shape)
    return {
        "image": image,
        "augmented_image": np.where(mask, noise, image).astype(np.uint8),
        "anomaly_mask": mask,
    }


@functools.cache
def trained(method):
    """The metrics of 30 steps, and the weights after them."""
    c = config(method)
    state = method.init_state(c, jax.random.key(0), {}, batch())
    step = jax.jit(functools.partial(method.train_step, config=c))
    found = []
    for _ in range(c[method.NAME].steps):
        state, metrics = step(state, {}, batch())
        found.append(jax.device_get(metrics))
    return found, {method.NAME: method.weights(state)}


@pytest.mark.parametrize("method", [draem, riad], ids=lambda m: m.NAME)
def test_it_learns_and_its_losses_add_up(method):
    metrics, _ = trained(method)
    assert metrics[-1]["loss"] < 0.6 * metrics[0]["loss"]
    for m in metrics:
        terms = sum(v for k, v in m.items() if k not in ("loss", "gradient_norm"))
        assert m["loss"] == pytest.approx(terms, rel=1e-5)


@pytest.mark.parametrize("method", [draem, riad], ids=lambda m: m.NAME)
def test_prediction_and_validation_keep_their_contracts(method):
    _, weights = trained(method)
    c = config(method)
    predict = jax.jit(functools.partial(method.predict, seed=0, config=c))
    found = predict(weights, batch()["augmented_image"])
    assert found.score.shape == (4,) and found.anomaly_map.shape == (4, 16, 16)
    assert found.reconstruction.shape == (4, 16, 16, 3) and found.interpolated is None
    for values in (found.anomaly_map, found.reconstruction):
        assert float(values.min()) >= 0.0 and float(values.max()) <= 1.0
    others = batch()["augmented_image"][[1, 0, 0, 0]]
    np.testing.assert_allclose(predict(weights, others).score[0], found.score[1], rtol=1e-4)
    validated = jax.jit(functools.partial(method.validate, config=c))(weights, batch())
    assert method.STAGE.best_by in validated.metrics
    assert all(np.isfinite(v) for v in validated.metrics.values())
    assert {v.shape for v in validated.pictures.values()} == {(4, 16, 16, 3)}


def test_draems_loss_is_the_sum_of_its_three_terms_on_its_own_output():
    c = config(draem)
    state = draem.init_state(c, jax.random.key(0), {}, batch())
    metrics = trained(draem)[0][0]
    augmented, image = to_float(batch()["augmented_image"]), to_float(batch()["image"])
    run = jax.jit(lambda *args: draem._run(*args, c, train=True))
    repaired, logits, _ = run(state.params, state.variables, augmented)
    mask = jnp.asarray(batch()["anomaly_mask"][..., 0], jnp.float32)
    assert metrics["l2"] == pytest.approx(float(np.mean((repaired - image) ** 2)), rel=1e-5)
    expected = 1.0 - float(np.mean(similarity.ssim(repaired, image)))
    assert metrics["ssim"] == pytest.approx(expected, rel=1e-5)
    expected = float(np.mean(losses.focal(logits, mask, 2.0)))
    assert metrics["focal"] == pytest.approx(expected, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([2, 3, 5]))
def test_masks_hide_each_pixel_exactly_once(seed, count):
    c = config(riad, num_masks=count, square_sizes=(1, 2, 4))
    masks = np.asarray(riad.disjoint_masks(jax.random.key(seed), c))
    assert masks.shape == (3, count, 16, 16, 1)
    np.testing.assert_array_equal((1 - masks).sum(1), 1)
    for size, of_size in zip((1, 2, 4), masks, strict=True):
        squares = of_size.reshape(count, 16 // size, size, 16 // size, size)
        assert (np.ptp(squares, axis=(2, 4)) == 0).all()
        hidden = (1 - of_size).sum((1, 2, 3)) / size**2
        assert np.ptp(hidden) <= 1  # as equal as they can be


def test_no_pixel_is_guessed_from_itself():
    _, weights = trained(riad)
    c, trained_weights = config(riad), weights["riad"]
    masks = riad.disjoint_masks(jax.random.key(0), c)[0]
    image = to_float(batch()["image"][:1])

    def guess(x):
        statistics = {"batch_stats": trained_weights["batch_stats"]}
        found, _ = riad._inpaint(trained_weights["params"], statistics, x, masks, c, train=False)
        return found[0, 5, 6, 0]

    slope = jax.jit(jax.grad(guess))(image)[0]
    assert (slope[5, 6] == 0).all() and jnp.abs(slope).max() > 0


def test_published_weights_of_draem_are_taken_over(tmp_path):
    """Written under the published names, both files are read back as they were."""
    c = config(draem, patch_size=1)
    state = draem.init_state(c, jax.random.key(1), {}, batch())
    made = {
        "reconstructor": names.reconstructor(draem.reconstructor(c)),
        "segmenter": names.segmenter(draem.segmenter(c), channels=6),
    }
    files = []
    for name, pairs in made.items():
        variables = {"params": state.params[name], "batch_stats": state.variables[name]}
        theirs = translate.to_theirs(jax.device_get(variables), pairs)
        files.append(tmp_path / f"{name},a.safetensors")  # a comma is part of a name
        whole = {k: np.ascontiguousarray(v) for k, v in theirs.items()}  # it takes the bare bytes
        safetensors.numpy.save_file(whole, files[-1])
    assert {"encoder.block1.0.weight", "decoder.db1.3.bias", "decoder.fin_out.0.weight"} <= set(
        safetensors.numpy.load_file(files[0])
    )
    mutable = ml_collections.ConfigDict(c)
    import_file(mutable, tmp_path / "run", *files)
    detector = Detector.from_workdir(mutable, tmp_path / "run", "tiles")
    jax.tree.map(np.testing.assert_array_equal, detector.weights["draem"], draem.weights(state))
    with pytest.raises(ConvertError, match="already holds a checkpoint"):
        import_file(mutable, tmp_path / "run", *files)
    with pytest.raises(ConvertError, match="name the other one with --second_input"):
        import_file(mutable, tmp_path / "other", files[0])
    with pytest.raises(ConvertError, match="both hold"):
        import_file(mutable, tmp_path / "other", files[0], files[0])
    mutable.draem.patch_size = 2
    with pytest.raises(ConvertError, match="is for config.draem.patch_size = 1, here it is 2"):
        import_file(mutable, tmp_path / "other", *files)
