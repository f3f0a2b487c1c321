"""DiffAD as a method: its stages, and how it predicts."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections

from diffad_jax.config import common
from diffad_jax.config.fields import Section
from diffad_jax.methods import filters
from diffad_jax.methods.contract import Method, Stage
from diffad_jax.methods.diffad import (
    STAGES,
    brightness,
    features,
    fields,
    label,
    memory,
    normal_level,
    products,
    windows,
)
from diffad_jax.methods.diffad.brightness import Exposed
from diffad_jax.methods.diffad.reconstruct import (
    Reconstruction,
    decode,
    denoise,
    encode,
    reconstruct,
)
from diffad_jax.methods.diffad.segment import probabilities
from diffad_jax.types import AnomalyMaps, Images, Photos, Prediction, to_float

Config = ml_collections.FrozenConfigDict


def stages(config: Config) -> tuple[Stage, ...]:
    """See ``contract.Method``: the published three, and what is fitted beside them."""
    autoencoder, denoiser, segmenter = STAGES
    if config.autoencoder.window:
        autoencoder, denoiser, segmenter = (_with(fields.WINDOW, stage) for stage in STAGES)
    if config.shared_label == "known":
        denoiser = _with(common.LABEL, denoiser)
    light = (brightness.STAGE,) if config.autoencoder.exposure else ()
    seen = (features.STAGE,) if config.segmentation.features != "none" else ()
    compared = (memory.STAGE,) if config.memory.patches else ()
    relative = (normal_level.STAGE,) if _is_relative(config) else ()
    return (*light, autoencoder, denoiser, *seen, segmenter, *compared, *relative)


def _with(section: Section, stage: Stage) -> Stage:
    """A stage whose weights depend on a section, too, which is off otherwise."""
    return dataclasses.replace(stage, sections=(*stage.sections, section))


def map_range(config: Config) -> tuple[float, float] | None:
    """See ``contract.Method``: that of probabilities, where maps are no others."""
    return None if _is_relative(config) or config.memory.patches else (0.0, 1.0)


def predict(weights: dict, images: Photos, *, seed: int | jax.Array, config: Config) -> Prediction:
    """See ``contract.Method``; the seed is that of the noise, which all photos share."""
    photo = brightness.exposed(weights, to_float(images), config=config)
    parts, key = windows.cut(photo, config=config), jax.random.key(seed)
    reconstruction = reconstruct(
        weights, parts, key, config=config, num_steps=config.reconstruction.test_steps
    )
    return judge(weights, photo, reconstruction, config=config)


def judge(
    weights: dict, photo: Exposed, reconstruction: Reconstruction, *, config: Config
) -> Prediction:
    """The last part of ``predict``: segments, and scores the map.

    ``reconstruction`` is that of ``windows.cut(photo)``.
    """
    suspected = _suspected(weights, photo, reconstruction, config=config)
    return _scored(weights, photo.image, reconstruction, suspected, config=config)


def _suspected(
    weights: dict, photo: Exposed, reconstruction: Reconstruction, *, config: Config
) -> AnomalyMaps:
    """The segmenter's map, relative to normal photos where it is to be."""
    parts = windows.cut(photo, config=config)
    anomaly_map = probabilities(weights, reconstruction, parts, config=config)
    anomaly_map = windows.joined(anomaly_map, config=config)
    if _is_relative(config):
        anomaly_map = normal_level.relative(anomaly_map, weights[normal_level.NAME], config=config)
    return anomaly_map


def _scored(
    weights: dict,
    image: Images,
    reconstruction: Reconstruction,
    anomaly_map: AnomalyMaps,
    *,
    config: Config,
) -> Prediction:
    if config.memory.patches:
        distances = memory.distances(weights, image, config=config)
        anomaly_map = distances * (1.0 + _weight_of_suspicion(config) * anomaly_map)
    interpolated = jnp.moveaxis(reconstruction.interpolated, 1, 3)
    interpolated = jnp.moveaxis(windows.joined(interpolated, config=config), 3, 1)
    c = config.evaluation
    return Prediction(
        score=filters.image_score(anomaly_map, c.smoothing, c.smoothing_power),
        anomaly_map=anomaly_map,
        reconstruction=jnp.clip(
            windows.joined(reconstruction.reconstruction, config=config), 0.0, 1.0
        ),
        interpolated=jnp.clip(interpolated, 0.0, 1.0),
    )


def _encode(weights: dict, image: Images, *, seed: int, config: Config) -> dict:
    del seed
    photo = brightness.exposed(weights, image, config=config)
    parts = windows.cut(photo, config=config)
    latent = encode(weights, parts, config=config)
    return {"photo": photo, "latent": latent, "gain": parts.gain}


def _denoise(weights: dict, made: dict, *, seed: int, config: Config) -> dict:
    key, num_steps = jax.random.key(seed), config.reconstruction.test_steps
    z_r = denoise(weights, made["latent"], key, config=config, num_steps=num_steps)
    return made | {"z_r": z_r}


def _decode(weights: dict, made: dict, *, seed: int, config: Config) -> dict:
    del seed
    result = decode(weights, made["latent"], made["z_r"], made["gain"], config=config)
    return {"photo": made["photo"], "reconstruction": result}


def _segment(weights: dict, made: dict, *, seed: int, config: Config) -> dict:
    del seed
    found = _suspected(weights, made["photo"], made["reconstruction"], config=config)
    return made | {"anomaly_map": found}


def _score(weights: dict, made: dict, *, seed: int, config: Config) -> Prediction:
    del seed
    return _scored(
        weights, made["photo"].image, made["reconstruction"], made["anomaly_map"], config=config
    )


def score_map(anomaly_map: AnomalyMaps, *, config: Config) -> AnomalyMaps:
    """See ``contract.Method``."""
    c = config.evaluation
    return filters.power_mean_filter(anomaly_map, c.smoothing, c.smoothing_power)


def whole_photos(config: Config) -> str:
    """See ``contract.Method``: levels are those of places."""
    if not _is_relative(config):
        return ""
    return (
        "whose maps are relative to normal photos, place by place: --config.normal_level.floor=0 "
        "leaves that away"
    )


def describe(config: Config) -> dict[str, str]:
    """What a reader of a report must know of the method."""
    c, e = config.reconstruction, config.evaluation
    floor, found = config.normal_level.floor, "probability"
    if _is_relative(config):
        found += f" over (the level of normal photos at that place + {floor:g})"
    if config.memory.patches:
        found = (
            "distance of features to those of normal photos, 1 where one just exceeds it, x (1 + "
            f"{_weight_of_suspicion(config):g} x {found})"
        )
    return {
        "map": found,
        "score": filters.describe(e.smoothing, e.smoothing_power),
        "reconstruction": f"{c.test_steps} DDIM steps, {c.spacing}, {c.condition} condition",
    }


def _is_relative(config: Config) -> bool:
    return config.normal_level.floor > 0.0


def _weight_of_suspicion(config: Config) -> float:
    """What the segmenter's map is multiplied by, of which relative ones reach 1 / floor."""
    return memory.SUSPICION * (config.normal_level.floor if _is_relative(config) else 1.0)


METHOD = Method(
    name="diffad",
    sections=(
        *common.BY_STEPS,
        fields.AUTOENCODER,
        fields.WINDOW,
        fields.DIFFUSION,
        fields.RECONSTRUCTION,
        fields.SEGMENTATION,
        fields.FEATURES,
        fields.MEMORY,
        fields.NORMAL_LEVEL,
        common.SMOOTHING,
        common.SMOOTHING_POWER,
    ),
    check=fields.check,
    stages=stages,
    predict=predict,
    of_category=label.of_category,
    tell=products.tell,
    parts=(
        ("encode", _encode),
        ("denoise", _denoise),
        ("decode", _decode),
        ("segment", _segment),
        ("score", _score),
    ),
    score_map=score_map,
    whole_photos=whole_photos,
    map_range=map_range,
    reconstructs=True,
    needs_synthesis=True,
    describe=describe,
)
