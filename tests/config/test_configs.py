"""Every config loads, is locked, has the same fields, and refuses nonsense."""

import importlib

import ml_collections
import pytest

from configs import draem, mvtec, mvtec_small, padim, patchcore, riad
from diffad_jax.errors import ConfigError
from diffad_jax.methods.registry import check_config
from diffad_jax.methods.train_state import learning_rate

NAMES = ("mvtec", "mvtec_fast", "mvtec_small", "mvtec_windows", "demo", "folder")
OTHERS = ("draem", "draem_small", "riad", "riad_small", "padim", "patchcore")


def load(name, *args):
    return importlib.import_module(f"configs.{name}").get_config(*args)


def fields(config, prefix=""):
    for key, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            yield from fields(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@pytest.mark.parametrize("name", NAMES)
def test_loads_locked_with_the_same_fields(name):
    config = load(name)
    check_config(config)
    assert sorted(fields(config)) == sorted(fields(mvtec.get_config()))
    with pytest.raises(AttributeError, match="step_size"):
        config.autoencoder.step_size = 3


@pytest.mark.parametrize("name", OTHERS)
def test_other_methods_load_locked_without_fields_of_diffad(name):
    config = load(name)
    check_config(config)
    assert config.method == name.removesuffix("_small")
    assert not {"autoencoder", "diffusion", "segmentation"} & set(config)
    with pytest.raises(AttributeError, match="smoothness"):
        config.evaluation.smoothness = 3


@pytest.mark.parametrize("name", [*NAMES, *OTHERS])
def test_the_argument_chooses_categories(name):
    assert tuple(load(name, "bottle,pill").categories) == ("bottle", "pill")


def test_squares_must_tile_the_photo():
    config = load("riad_small")
    config.riad.square_sizes = (2, 5)
    with pytest.raises(ConfigError, match="each must divide config.image_size = 128"):
        check_config(config)


def test_the_default_is_all_fifteen():
    assert len(mvtec.get_config().categories) == 15


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.resize", "lanczos", "config.data.resize = 'lanczos': choose one of bilinear, anti"),
        ("reconstruction.test_steps", 1001, "num_steps must lie in 1 … 1000, got 1001"),
        ("reconstruction.start_timestep", 1000, "must lie in 0 … 999"),
        ("diffusion.condition_timesteps", (9, 9), "must rise within 0 … 1000"),
        ("diffusion.anomaly_weight", 0.0, "anomaly_weight = 0.0: must be above 0, and finite"),
        ("diffusion.anomaly_weight", float("nan"), "anomaly_weight = nan: must be above 0"),
        ("diffusion.condition_noise", "some", "choose one of independent, shared, none"),
        ("segmentation.steps", -1, "config.segmentation.steps = -1: must be 0 or more"),
        ("segmentation.epochs", 0, "or 0 with config.segmentation.epochs = 0 at 1 or more"),
        ("reconstruction.interpolation", (0.5, 1.5), "each must lie in 0 … 1"),
        ("reconstruction.interpolation", (0.5, 0.5), "each must be there once"),
        ("reconstruction.condition_timesteps", (500, 400), "must be two numbers that rise"),
        ("autoencoder.perceptual", "inception", "name their file in config.autoencoder.percept"),
        ("autoencoder.perceptual_heads", "vgg.pth", "needs two files: VGG16's in"),
        ("synthesis.shade_range", (0.0, 0.9), "each must lie in 0 … 1, above 0"),
        ("synthesis.shade_threshold_range", (0.5, 0.1), "must be two numbers that rise"),
        ("synthesis.shade_threshold_range", (0.0, 0.5), "each must be above 0"),
        ("synthesis.max_light_change", 0.6, "max_light_change = 0.6: must lie in 0 … 0.5"),
        ("synthesis.shade_softness", -0.1, "shade_softness = -0.1: must be 0 or more"),
        ("synthesis.shade_softness", 1.1, "must lie in 0 … 1.0, twice the least of shade_thresh"),
        ("data.validation_share", 1.5, "config.data.validation_share = 1.5: must lie in 0 … 1"),
        ("evaluation.smoothing", 4, "config.evaluation.smoothing = 4: must be odd"),
        ("evaluation.smoothing_power", 0.5, "smoothing_power = 0.5: must be 1 or more, and finite"),
        ("evaluation.smoothing_power", float("nan"), "smoothing_power = nan: must be 1 or more"),
        ("categories", (), "config.categories is empty"),
    ],
)
def test_impossible_values_are_named(field, value, message):
    config = mvtec.get_config()
    section, _, name = field.rpartition(".")
    (config[section] if section else config)[name] = value
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_kinds_of_anomalies_share_one_whole():
    config = mvtec.get_config()
    config.synthesis.own_texture_probability, config.synthesis.shade_probability = 0.6, 0.5
    with pytest.raises(ConfigError, match="= 0.6 and shade_probability = 0.5: together at most 1"):
        check_config(config)


def test_more_linear_latents_than_a_patch_has_values_are_refused():
    config = mvtec.get_config()
    config.autoencoder.linear_skip, config.autoencoder.latent_channels = True, 193
    with pytest.raises(ConfigError, match="with linear_skip at most 192, the values of a patch"):
        check_config(config)


def test_sampling_never_meets_noise_that_training_left_out():
    config = load("mvtec_small")
    config.reconstruction.test_steps = 3
    with pytest.raises(ConfigError, match="test_steps = 3 visits timestep 332, which the denoiser"):
        check_config(config)
    config.diffusion.trained_timesteps = (0, 1000)
    check_config(config)


def test_the_published_recipe_samples_with_the_weights_themselves_and_clips_nothing():
    published, small = mvtec.get_config(), mvtec_small.get_config()
    assert published.diffusion.ema_decay == 0.0 and not published.reconstruction.clip
    assert published.data.textures == "dtd" and published.data.resize == "bilinear"
    assert small.diffusion.ema_decay == 0.995 and small.reconstruction.clip
    assert small.data.textures == "procedural" and draem.get_config().data.textures == "dtd"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (mvtec, "The last batch of an epoch is filled up"),
        (mvtec, "All photos share one draw of the noise at test"),
        (mvtec, "Brightness changes RGB (theirs a colour space drawn from six)"),
        (mvtec, "A tenth of the normal photos, at least 19, is held out"),
        (draem, "the last batch of an epoch is filled up"),
        (draem, "brightness changes RGB (theirs a colour space drawn from six)"),
        (draem, "a tenth of the normal photos is held out"),
        (padim, "keeps their centre of 224. Here the whole photo counts"),
        (patchcore, "keeps their centre of 224. Here the whole photo counts"),
    ],
)
def test_where_a_published_recipe_differs_is_said(config, said):
    assert said in " ".join(config.__doc__.split())


def test_riads_rate_falls_to_a_tenth_at_epoch_250_of_300():
    section = ml_collections.ConfigDict(riad.get_config().riad)
    rate = learning_rate(section, updates=300)
    assert float(rate(249)) == pytest.approx(1e-4) and float(rate(250)) == pytest.approx(1e-5)
