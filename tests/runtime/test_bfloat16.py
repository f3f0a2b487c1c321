"""Compute in bfloat16: how far each network is off, and that every stage still learns."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from conftest import TINY
from parity.parity_cases import GOLDEN, SMALL_CASES, formula_weight, relative_error

from configs import mvtec_small
from diffad_jax.inference.detector import score_settings
from diffad_jax.methods.diffad import STAGES, networks

# Largest error relative to the largest value of PyTorch's float64 output: about twice the measured
# one. One rounding costs up to 0.004; batch statistics of two small maps magnify it.
BOUNDS = {
    "encoder": 0.05,
    "decoder": 0.03,
    "unet": 0.03,
    "segmenter_train": 0.13,
    "discriminator_train": 0.02,
    "lpips": 0.01,
    "inception_distance": 0.004,
}
CASES = [case for case in SMALL_CASES if case.name in BOUNDS]
NUM_STEPS = 200


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_network_is_off_by_a_bounded_amount(case):
    case = dataclasses.replace(case, module=case.module.clone(dtype=jnp.bfloat16))
    assert _dtypes(case.shapes()) == {np.dtype(np.float32)}
    output, statistics = jax.jit(case.run)(case.variables, *case.inputs)
    assert _dtypes((output, statistics)) == {np.dtype(np.float32)}
    error = relative_error(output, np.load(GOLDEN / f"{case.name}.npz")["output"])
    assert 1e-4 < error <= BOUNDS[case.name]  # float32 is within 1e-5: bfloat16 is at work


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_learns(stage):
    config = _config()
    batch, frozen = _batch(), _frozen(config)
    init = functools.partial(stage.init_state, config)
    state = _filled(jax.eval_shape(init, jax.random.key(0), frozen, batch))

    @jax.jit
    def train(state, frozen, batch):
        def step(state, _):
            return stage.train_step(state, frozen, batch, config=config)

        return jax.lax.scan(step, state, length=NUM_STEPS)

    trained, metrics = train(state, frozen, batch)
    assert trained.step == NUM_STEPS
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((trained, metrics)))
    kept = (trained.params, trained.ema_params, trained.variables)
    assert _dtypes(kept) == {np.dtype(np.float32)}
    if stage.name == "autoencoder":
        assert np.all(metrics["adaptive_weight"] > 0)  # the adversary is there from the start
    assert metrics["loss"][-20:].mean() < 0.9 * metrics["loss"][:20].mean()


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float32"), ("gpu", "bfloat16")])
def test_the_device_can_choose(tiny_config, monkeypatch, device, dtype):
    tiny_config.training.compute_dtype = "auto"
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    assert networks.segmenter(ml_collections.FrozenConfigDict(tiny_config)).dtype == dtype
    assert score_settings(tiny_config, False)["training.compute_dtype"] == dtype


def _config() -> ml_collections.FrozenConfigDict:
    config = mvtec_small.get_config("tiles")
    for field, value in TINY.items():
        section, _, name = field.rpartition(".")
        (config[section] if section else config)[name] = value
    config.training.compute_dtype = "bfloat16"
    config.autoencoder.update(
        num_res_blocks=0,
        adversarial_weight=0.5,
        adversarial_start=0,
        discriminator_channels=4,
        discriminator_layers=1,
    )
    config.diffusion.update(multipliers=(1,), num_res_blocks=0, latent_scale=1.0)
    for section in ("autoencoder", "diffusion", "segmentation"):
        config[section].update(steps=NUM_STEPS, warmup_steps=20)
    return ml_collections.FrozenConfigDict(config)


def _batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    image, texture = rng.integers(0, 256, (2, 2, 16, 16, 3), np.uint8)
    mask = np.zeros((2, 16, 16, 1), np.uint8)
    mask[:, 3:9, 4:12] = 1
    return {
        "image": image,
        "augmented_image": np.where(mask, texture, image),
        "anomaly_mask": mask,
    }


def _frozen(config) -> dict:
    """Weights of the networks before, from a formula."""
    height, width, channels = networks.latent_shape(config)
    image, latents = jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, height, width, 2 * channels))
    inputs = {"autoencoder": (image,), "denoiser": (latents, jnp.zeros(1, jnp.int32))}
    weights = {
        name: _filled(jax.eval_shape(getattr(networks, name)(config).init, jax.random.key(0), *x))
        for name, x in inputs.items()
    }
    weights["denoiser"]["scale"] = np.float32(1.0)
    return weights


def _filled(shapes):
    """Weights by formula; key, counts and moments are zero."""

    def fill(path, leaf):
        names = tuple(getattr(entry, "key", getattr(entry, "name", "")) for entry in path)
        if names == ("variables", "scale"):  # of the latent
            return np.float32(1.0)
        if "opt_state" in names or not names[1:]:
            return np.zeros(leaf.shape, leaf.dtype)
        return formula_weight(names, leaf.shape)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def _dtypes(tree) -> set:
    return {np.dtype(leaf.dtype) for leaf in jax.tree.leaves(tree)}
