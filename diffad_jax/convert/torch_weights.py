"""Turns tensors of the published files into ours, for the config that describes the networks.

Published DiffAD feeds its networks BGR in [0, 1]; ours take RGB in [0, 1]. So convolutions at an
image are flipped (``Pair.colour``), which changes no result. Weights trained on [-1, 1]
need ``config.autoencoder.signed``: no bias absorbs the range, because convolutions pad with zeros.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import ml_collections
import numpy as np

from diffad_jax.convert import names, sources, translate
from diffad_jax.convert.errors import ConvertError
from diffad_jax.convert.names import Pair
from diffad_jax.convert.sources import (
    AUTOENCODER,
    DIFFUSERS,
    LATENT_DIFFUSION,
    RECONSTRUCTOR_AND_SEGMENTER,
    SEGMENTER,
)
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.diffad.reconstruct import noise_schedule
from diffad_jax.methods.registry import get_method

Config = ml_collections.FrozenConfigDict

_SCHEDULE = (  # buffers that follow from the config
    *("betas", "alphas_cumprod", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
    *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"),
    *("posterior_variance", "posterior_log_variance", "posterior_mean_coef"),
)
_MAY_START_ANEW = ("discriminator",)  # predictions do without
FIRST_STAGE, CONDITION = "first_stage_model.", "cond_stage_model."
_DISCRIMINATOR = "loss.discriminator."
_ASIDE = ("loss.perceptual_loss.", "loss.logvar", CONDITION, "model_ema.decay",
          "model_ema.num_updates", "scale_factor", *_SCHEDULE)  # fmt: skip


def convert(config: Config, tensors: dict[str, np.ndarray], source: str) -> dict:
    """The variables of our networks from published tensors.

    Args:
      config: describes the networks.
      tensors: the contents of one file, or of DRAEM's two.
      source: its name, for messages.

    Returns:
      {part: {collection: ...}} of float32, for each part that the file holds: ``autoencoder``,
      ``discriminator`` (if the config trains one), ``denoiser``, ``average`` (the denoiser's),
      ``segmenter``, ``reconstructor``; and beside a denoiser ``scale``, the latent scale.

    Raises:
      ConvertError: the config contradicts the file; a tensor is missing, unknown or misshapen.
    """
    kind = sources.recognise(tensors, source)
    stages = stages_of(config, sources.NETWORKS[kind], source)
    require_published(config, kind, source)
    modules = {n: m for stage in stages.values() for n, m in stage.networks(config).items()}
    pairs = _pairs(config, kind, tensors, modules)

    def known(name: str) -> bool:
        unused = name.startswith(_DISCRIMINATOR) and not _trains_discriminator(config)
        return name.startswith(_ASIDE) or name.endswith("num_batches_tracked") or unused

    parts = translate.to_ours(tensors, pairs, known=known, source=source)
    if kind == LATENT_DIFFUSION:
        _require_one_autoencoder(tensors, source)
        _require_schedule(config, tensors, source)
        parts["scale"] = _latent_scale(config, tensors, source)
        if "average" not in parts or not config.diffusion.ema_decay:
            parts["average"] = parts["denoiser"]  # as the published scripts sample
        for part in ("denoiser", "average"):
            parts[part] = scale_condition(parts[part], 1.0 / parts["scale"])
    return parts


def stages_of(config: Config, networks: Sequence[str], source: str) -> dict[str, Stage]:
    """The stage that holds each of these networks, by the network's name.

    Raises:
      ConvertError: the config's method has no such network, or the stage has other networks, too.
    """
    stages = get_method(config).stages(config)
    holder = {name: stage for stage in stages for name in stage.networks(config)}
    for name in networks:
        if name not in holder:
            raise ConvertError(
                f"config.method = {config.method!r} has no network {name}, which {source} is for"
            )
        if holder[name].networks(config).keys() - {*networks, *_MAY_START_ANEW}:
            raise ConvertError(
                f"{source} holds one of the networks that stage {holder[name].name} trains "
                "together: name the other one with --second_input"
            )
    return {name: holder[name] for name in networks}


def autoencoder_pairs(config: Config, module: nn.Module) -> list[Pair]:
    """latent-diffusion's names; flipped unless the network was trained on RGB in [-1, 1]."""
    pairs = names.autoencoder(module)
    return translate.rgb(pairs) if config.autoencoder.signed else pairs


def scale_condition(variables: dict, factor: float) -> dict:
    """Multiplies the denoiser's weights for the condition, the second half of its input.

    The published code scales z by the latent scale and leaves the condition as it is; ours scales
    both.
    """
    kernel = variables["params"]["conv_in"]["kernel"].copy()
    kernel[:, :, kernel.shape[2] // 2 :] *= np.float32(factor)
    conv_in = variables["params"]["conv_in"] | {"kernel": kernel}
    return variables | {"params": variables["params"] | {"conv_in": conv_in}}


def require_published(config: Config, kind: str, source: str) -> None:
    """Refuses a config under which weights of this kind would mean something else."""
    wanted = {"autoencoder.patch_size": 1, "autoencoder.linear_skip": False}
    if kind == RECONSTRUCTOR_AND_SEGMENTER:
        stages = stages_of(config, sources.NETWORKS[kind], source)
        wanted = {f"{stage.section}.patch_size": 1 for stage in stages.values()}
    elif kind == DIFFUSERS:
        wanted["autoencoder.signed"] = True
    elif kind == LATENT_DIFFUSION:
        wanted |= {"autoencoder.signed": False, "diffusion.prediction": "epsilon"}
        wanted |= {"diffusion.linear_skip": False}
    elif kind == SEGMENTER:
        wanted = {"segmentation.patch_size": 1, "segmentation.input": "images"}
        if len(config.reconstruction.interpolation) != 1:
            raise ConvertError(
                f"{source} is for one interpolated channel: set "
                "--config.reconstruction.interpolation=(0.5,)"
            )
    for field, value in wanted.items():
        section, _, name = field.partition(".")
        if config[section][name] != value:
            raise ConvertError(
                f"{source} is for config.{field} = {value!r}, here it is "
                f"{config[section][name]!r}: set --config.{field}={value}"
            )


def _pairs(
    config: Config, kind: str, tensors: dict[str, np.ndarray], modules: Mapping[str, nn.Module]
) -> list[Pair]:
    """The tensors that a file of this kind must hold."""
    if kind == SEGMENTER:
        return translate.prefixed(names.segmenter(modules["segmenter"]), "segmenter", str)
    if kind == RECONSTRUCTOR_AND_SEGMENTER:
        pairs = translate.prefixed(
            names.reconstructor(modules["reconstructor"]), "reconstructor", str
        )
        of_both = names.segmenter(modules["segmenter"], channels=6)
        return pairs + translate.prefixed(of_both, "segmenter", str)
    if kind == DIFFUSERS:
        old = "encoder.mid_block.attentions.0.query.weight" in tensors
        pairs = names.diffusers_autoencoder(modules["autoencoder"], old=old)
        return translate.prefixed(translate.rgb(pairs), "autoencoder", str)
    autoencoder = autoencoder_pairs(config, modules["autoencoder"])
    if kind == AUTOENCODER:
        pairs = translate.prefixed(autoencoder, "autoencoder", str)
        if _trains_discriminator(config) and any(n.startswith(_DISCRIMINATOR) for n in tensors):
            gan = names.discriminator(modules["discriminator"])
            pairs += translate.prefixed(gan, "discriminator", _DISCRIMINATOR.__add__)
        return pairs
    denoiser = names.denoiser(modules["denoiser"])
    pairs = translate.prefixed(denoiser, "denoiser", "model.diffusion_model.".__add__)
    if any(n.startswith("model_ema.") for n in tensors):
        pairs += translate.prefixed(denoiser, "average", names.averaged)
    return pairs + translate.prefixed(autoencoder, "autoencoder", FIRST_STAGE.__add__)


def _trains_discriminator(config: Config) -> bool:
    """A signed file's discriminator was trained on another range than ours."""
    return bool(config.autoencoder.adversarial_weight) and not config.autoencoder.signed


def _require_one_autoencoder(tensors: dict[str, np.ndarray], source: str) -> None:
    for name, value in tensors.items():
        twin = tensors.get(FIRST_STAGE + name.removeprefix(CONDITION))
        if name.startswith(CONDITION) and twin is not None and not np.array_equal(value, twin):
            raise ConvertError(
                f"{source}: {name} differs from {FIRST_STAGE}; ours encodes both with one network"
            )


def _require_schedule(config: Config, tensors: dict[str, np.ndarray], source: str) -> None:
    ours = noise_schedule(config)
    theirs = _numbers(tensors, "alphas_cumprod", ours, source)
    if theirs.shape != ours.shape or not np.allclose(theirs, ours, rtol=1e-4, atol=0):
        raise ConvertError(
            f"{source} was trained under another noise schedule: {len(theirs)} steps, from "
            f"{1 - theirs[0]:.6g} to {1 - theirs[-1]:.6g} of noise, here {len(ours)}, from "
            f"{1 - ours[0]:.6g} to {1 - ours[-1]:.6g}: set config.diffusion.timesteps, "
            "beta_start, beta_end"
        )


def _latent_scale(config: Config, tensors: dict[str, np.ndarray], source: str) -> float:
    found = _numbers(tensors, "scale_factor", np.ones(1), source)
    theirs, ours = float(found[0]), config.diffusion.latent_scale
    if len(found) > 1 or theirs <= 0.0:
        raise ConvertError(f"{source} is damaged: scale_factor is no single number above 0")
    if ours not in (0.0, theirs):
        raise ConvertError(
            f"{source} has latents scaled by {theirs}: set config.diffusion.latent_scale to it"
        )
    return theirs


def _numbers(
    tensors: dict[str, np.ndarray], name: str, default: np.ndarray, source: str
) -> np.ndarray:
    """A tensor beside the networks' own, in a row; at least one number."""
    found = tensors.get(name, default).ravel()
    found = found.astype(np.float64) if found.dtype.kind in "iu" else found  # a whole scale
    fault = translate.number_fault(found, is_variance=False) if found.size else "is empty"
    if fault:
        raise ConvertError(f"{source} is damaged: {name} {fault}")
    return found.astype(np.float64)
