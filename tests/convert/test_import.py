"""Published weights in a work directory: they detect, come out again, and misfits are refused."""

import jax
import ml_collections
import numpy as np
import published_case
import pytest
import safetensors.numpy
from published_case import assert_equal, nothing, published_files, variables

from diffad_jax.convert import names, sources, torch_file, torch_weights, translate
from diffad_jax.convert.errors import ConvertError
from diffad_jax.convert.exporter import export_category
from diffad_jax.convert.importer import import_file
from diffad_jax.inference import calibration
from diffad_jax.inference.detector import Detector
from diffad_jax.methods.diffad import STAGES, networks
from diffad_jax.methods.registry import default_config
from diffad_jax.models.discriminator import Discriminator
from diffad_jax.runtime import lock
from diffad_jax.training import checkpoint
from diffad_jax.training.fingerprint import fingerprint


@pytest.fixture
def config(tiny_config) -> ml_collections.ConfigDict:
    return published_case.published(tiny_config)


def test_imported_stages_detect_and_come_out_again(config, tmp_path, capsys):
    written = published_files(config, tmp_path)
    workdir = tmp_path / "run"
    with pytest.raises(checkpoint.CheckpointError, match="no trained autoencoder"):
        import_file(config, workdir, tmp_path / "segmenter.pckl")
    import_file(config, workdir, tmp_path / "denoiser.ckpt")
    import_file(config, workdir, tmp_path / "segmenter.pckl")
    assert "read as trained on BGR in [0, 1]" in capsys.readouterr().out

    frozen, weights = ml_collections.FrozenConfigDict(config), {}
    for stage in STAGES:
        weights[stage.name] = checkpoint.load_weights(stage, frozen, weights, workdir / "tiles")
    pairs = names.denoiser(networks.denoiser(frozen))
    averaged = translate.to_ours(written["average"], pairs, known=nothing, source="")
    assert_equal(averaged["params"], weights["denoiser"]["params"])
    photos = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    detector = Detector.from_workdir(config, workdir, "tiles")
    predicted = detector.predict(photos)
    assert np.isfinite(predicted.score).all() and np.isfinite(predicted.anomaly_map).all()
    chosen = calibration.load_or_choose(config, workdir, "tiles", detector)
    assert chosen.describe_photos().endswith("photos, which the imported weights may have seen")

    export_category(config, workdir, "tiles", tmp_path / "out")
    for name in ("autoencoder.ckpt", "denoiser.ckpt", "segmenter.pckl"):
        before, after = (torch_file.read(folder / name) for folder in (tmp_path, tmp_path / "out"))
        shared = {
            k for k in before if not k.startswith(("loss.", "model_ema.num", "model_ema.dec"))
        }
        shared = {k for k in shared if k != "betas" and not k.endswith("num_batches_tracked")}
        assert len(shared) > 20
        for key in shared:
            np.testing.assert_array_equal(after[key], before[key], err_msg=key)
    denoiser = torch_file.read(tmp_path / "out" / "denoiser.ckpt")
    assert denoiser["model_ema.num_updates"] == config.diffusion.steps


def restore_state(config, directory):
    frozen, stage = ml_collections.FrozenConfigDict(config), STAGES[0]
    checkpoints = checkpoint.Checkpoints(directory / stage.name, keep=1)
    try:
        template = stage.state_shapes(frozen, {})
        mark = fingerprint(stage, frozen, {})
        step = checkpoints.newest_sound_step()
        return checkpoints.restore(step, "state", template, mark, for_training=False)
    finally:
        checkpoints.close()


def test_the_autoencoders_file_also_holds_the_discriminator(config, tmp_path):
    published_files(config, tmp_path)
    import_file(config, tmp_path / "run", tmp_path / "autoencoder.ckpt")
    state = restore_state(config, tmp_path / "run" / "tiles")
    expected = variables(names.discriminator(Discriminator(channels=4)))
    assert_equal(expected["params"], state.params["discriminator"])
    assert_equal(expected["batch_stats"], state.variables["batch_stats"])
    assert state.step == config.autoencoder.steps

    tensors = sources.read(tmp_path / "autoencoder.ckpt")
    frozen = ml_collections.FrozenConfigDict(config)
    assert torch_weights.convert(frozen, tensors, "").keys() == {"autoencoder", "discriminator"}
    config.autoencoder.signed = True
    frozen = ml_collections.FrozenConfigDict(config)  # the discriminator would see another range
    assert torch_weights.convert(frozen, tensors, "").keys() == {"autoencoder"}


def test_a_signed_file_needs_a_signed_config_and_the_other_way_round(config, tmp_path):
    pairs = translate.rgb(names.diffusers_autoencoder(networks.autoencoder(config), old=False))
    original = variables(pairs)
    tensors = translate.to_theirs(original, pairs)
    path = tmp_path / "vae.safetensors"
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
    with pytest.raises(ConvertError, match="set --config.autoencoder.signed=True"):
        import_file(config, tmp_path / "run", path)
    assert not (tmp_path / "run").exists()
    config.autoencoder.signed = True
    import_file(config, tmp_path / "run", path)
    frozen = ml_collections.FrozenConfigDict(config)
    found = checkpoint.load_weights(STAGES[0], frozen, {}, tmp_path / "run" / "tiles")
    assert_equal(original["params"], found["params"])

    published_files(config, tmp_path)
    with pytest.raises(ConvertError, match="set --config.autoencoder.signed=False"):
        import_file(config, tmp_path / "other", tmp_path / "denoiser.ckpt")


def test_half_precision_becomes_single(config):
    pairs = names.autoencoder(networks.autoencoder(config))
    original = translate.to_theirs(variables(pairs), pairs)
    halves = {k: v.astype(np.float16) for k, v in original.items()}
    ours = translate.to_ours(halves, pairs, known=nothing, source="")
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("autoencoder.patch_size", 2, "set --config.autoencoder.patch_size=1"),
        ("diffusion.prediction", "v", "set --config.diffusion.prediction=epsilon"),
        ("diffusion.latent_scale", 0.5, "latents scaled by 1.0: set config.diffusion.latent_scale"),
        ("diffusion.channels", 16, "must be .16, 8, 3, 3."),
        ("categories", ("tiles", "cups"), "one category: --config.categories=tiles"),
    ],
)
def test_a_config_for_something_else_is_refused(config, tmp_path, field, value, message):
    published_files(config, tmp_path)
    section, _, name = field.rpartition(".")
    (config[section] if section else config)[name] = value
    with pytest.raises(ConvertError, match=message):
        import_file(config, tmp_path / "run", tmp_path / "denoiser.ckpt")
    assert not (tmp_path / "run").exists()


def test_another_method_has_no_place_for_the_networks(config, tmp_path):
    published_files(config, tmp_path)
    draem = default_config("draem")
    draem.categories = ("tiles",)
    with pytest.raises(ConvertError, match="config.method = 'draem' has no network autoencoder"):
        import_file(draem, tmp_path / "run", tmp_path / "denoiser.ckpt")
    with pytest.raises(ConvertError, match="has no network autoencoder, which the published code"):
        export_category(draem, tmp_path / "run", "tiles", tmp_path / "out")
    with pytest.raises(ConvertError, match="stage draem trains together: name the other one with"):
        import_file(draem, tmp_path / "run", tmp_path / "segmenter.pckl")
    for name, first in (("padim", "autoencoder"), ("riad", "segmenter")):
        other = default_config(name)
        other.categories = ("tiles",)
        path = next(tmp_path.glob(f"{first}.*"))
        with pytest.raises(ConvertError, match=f"method = '{name}' has no network {first}"):
            import_file(other, tmp_path / "run", path)
    with pytest.raises(ConvertError, match="--second_input is for DRAEM"):
        import_file(config, tmp_path / "run", *tmp_path.glob("[as]*r.*"))
    assert not (tmp_path / "run").exists() and not (tmp_path / "out").exists()


def test_more_interpolated_channels_than_published_are_refused(config, tmp_path):
    published_files(config, tmp_path)
    config.reconstruction.interpolation = (0.3, 0.7)
    with pytest.raises(ConvertError, match="one interpolated channel"):
        import_file(config, tmp_path / "run", tmp_path / "segmenter.pckl")


def test_a_stage_counted_in_epochs_is_finished_too(config, tmp_path):
    published_files(config, tmp_path)
    config.autoencoder.steps = 0
    import_file(config, tmp_path / "run", tmp_path / "autoencoder.ckpt")
    frozen = ml_collections.FrozenConfigDict(config)
    assert checkpoint.load_weights(STAGES[0], frozen, {}, tmp_path / "run" / "tiles")


def test_a_finished_stage_is_not_replaced(config, tmp_path):
    published_files(config, tmp_path)
    import_file(config, tmp_path / "run", tmp_path / "autoencoder.ckpt")
    with pytest.raises(
        ConvertError, match="autoencoder already holds a checkpoint: choose another --workdir"
    ):
        import_file(config, tmp_path / "run", tmp_path / "denoiser.ckpt")


def test_a_folder_that_another_process_writes_to_is_left_alone(config, tmp_path):
    published_files(config, tmp_path)
    (category,) = config.categories
    with (
        lock.hold(tmp_path / "run" / category),
        pytest.raises(lock.LockedError, match="is writing here"),
    ):
        import_file(config, tmp_path / "run", tmp_path / "autoencoder.ckpt")
    assert [p.name for p in (tmp_path / "run" / category).iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alphas_cumprod": np.linspace(1, 0.1, 1000)}, "another noise schedule: 1000 steps"),
        ({"alphas_cumprod": np.zeros(0)}, "damaged: alphas_cumprod is empty"),
        ({"alphas_cumprod": np.full(1000, np.nan)}, "alphas_cumprod holds numbers that are not f"),
        ({"scale_factor": np.zeros(0)}, "damaged: scale_factor is empty"),
        ({"scale_factor": np.ones(2)}, "scale_factor is no single number above 0"),
        ({"scale_factor": np.zeros(())}, "scale_factor is no single number above 0"),
        ({"scale_factor": np.float32(-1)}, "scale_factor is no single number above 0"),
        ({"scale_factor": np.float32(np.inf)}, "scale_factor holds numbers that are not finite"),
        ({"scale_factor": np.array(1j)}, "scale_factor is of type complex128"),
        ({"cond_stage_model.quant_conv.bias": np.ones(8)}, "quant_conv.bias differs from first"),
        ({"model.diffusion_model.label_emb.weight": np.ones(8)}, "label_emb.weight is unknown"),
    ],
)
def test_another_model_than_diffads_is_refused(config, tmp_path, change, message):
    published_files(config, tmp_path)
    tensors = sources.read(tmp_path / "denoiser.ckpt") | change
    with pytest.raises(ConvertError, match=message):
        torch_weights.convert(ml_collections.FrozenConfigDict(config), tensors, "a.ckpt")


def test_without_an_average_an_import_samples_with_the_weights_themselves(config, tmp_path):
    """As the published scripts do."""
    published_files(config, tmp_path)
    config.diffusion.ema_decay = 0.0
    tensors = sources.read(tmp_path / "denoiser.ckpt")
    parts = torch_weights.convert(ml_collections.FrozenConfigDict(config), tensors, "a.ckpt")
    assert_equal(parts["average"], parts["denoiser"])


def test_a_latent_scale_is_moved_to_the_condition(config, tmp_path):
    """The published code hands the condition to the network unscaled; ours scales it."""
    published_files(config, tmp_path)
    config.diffusion.latent_scale = 0.0  # whatever the file says
    frozen = ml_collections.FrozenConfigDict(config)
    tensors = sources.read(tmp_path / "denoiser.ckpt")
    plain = torch_weights.convert(frozen, tensors, "")
    scaled = torch_weights.convert(frozen, tensors | {"scale_factor": np.float32(0.25)}, "")
    assert (plain["scale"], scaled["scale"]) == (1.0, 0.25)
    z, condition = np.random.default_rng(0).standard_normal((2, 1, 4, 4, 4)).astype(np.float32)
    apply, t = jax.jit(networks.denoiser(frozen).apply), np.array([5])
    theirs = apply(plain["denoiser"], np.concatenate([z, condition], -1), t)
    ours = apply(scaled["denoiser"], np.concatenate([z, 0.25 * condition], -1), t)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
