"""Our trained stages as files that the published PyTorch code loads."""

from pathlib import Path

import jax
import ml_collections
import numpy as np

from diffad_jax.convert import names, torch_file, torch_weights, translate
from diffad_jax.convert.errors import ConvertError
from diffad_jax.convert.sources import AUTOENCODER, SEGMENTER
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.diffad.reconstruct import noise_schedule
from diffad_jax.methods.registry import stage_folder
from diffad_jax.methods.train_state import TrainState
from diffad_jax.runtime import sharding
from diffad_jax.training import checkpoint
from diffad_jax.training.fingerprint import fingerprint

Config = ml_collections.FrozenConfigDict
_NETWORKS = ("autoencoder", "denoiser", "segmenter")  # in the order in which they train


def export_category(
    config: ml_collections.ConfigDict, workdir: Path, category: str, output_folder: Path
) -> None:
    """Writes a trained category as files that the published code loads.

    They are ``autoencoder.ckpt``, ``denoiser.ckpt``, and ``segmenter.pckl``, a bare state_dict. See
    ``published_tensors``, also for the errors.
    """
    tensors = published_tensors(config, workdir, category)
    folder = Path(output_folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch_file.write(folder / "autoencoder.ckpt", tensors["autoencoder"])
    torch_file.write(folder / "denoiser.ckpt", tensors["denoiser"])
    torch_file.write(folder / "segmenter.pckl", tensors["segmenter"], bare=True)


def published_tensors(
    config: ml_collections.ConfigDict | Config, workdir: Path, category: str
) -> dict[str, dict[str, np.ndarray]]:
    """A trained category under the published names.

    Returns:
      ``autoencoder``; ``denoiser`` with its moving average, its noise schedule and the autoencoder;
      ``segmenter``. The networks take BGR in [0, 1], except that an autoencoder with
      ``config.autoencoder.signed`` takes RGB in [-1, 1].

    Raises:
      ConvertError: the published networks have no counterpart for a field of the config.
      checkpoint.CheckpointError: a stage is missing, unfinished, or of another config.
    """
    frozen_config, directory = ml_collections.FrozenConfigDict(config), Path(workdir) / category
    stages = torch_weights.stages_of(frozen_config, _NETWORKS, "the published code")
    torch_weights.require_published(frozen_config, AUTOENCODER, "the published network")
    torch_weights.require_published(frozen_config, SEGMENTER, "the published network")
    if config.diffusion.prediction != "epsilon":
        raise ConvertError("the published sampler takes ε: this denoiser predicts something else")
    weights: dict = {}
    for stage in stages.values():
        folder = stage_folder(stage, frozen_config, directory)
        weights[stage.name] = checkpoint.load_weights(stage, frozen_config, weights, folder)
    latest = _denoiser_state(stages["denoiser"], frozen_config, weights["autoencoder"], directory)
    modules = {name: stage.networks(frozen_config)[name] for name, stage in stages.items()}

    pairs = torch_weights.autoencoder_pairs(frozen_config, modules["autoencoder"])
    autoencoder = translate.to_theirs(weights["autoencoder"], pairs)
    segmenter = translate.to_theirs(weights["segmenter"], names.segmenter(modules["segmenter"]))
    denoiser = names.denoiser(modules["denoiser"])
    return {
        "autoencoder": autoencoder,
        "denoiser": _denoiser(frozen_config, denoiser, latest, autoencoder),
        "segmenter": segmenter | _batch_counts(segmenter),
    }


def _denoiser_state(stage: Stage, config: Config, autoencoder: dict, directory: Path) -> TrainState:
    """The whole state, because ``weights`` lack the latest params beside their moving average."""
    earlier_weights = {"autoencoder": autoencoder}
    checkpoints = checkpoint.Checkpoints(stage_folder(stage, config, directory) / stage.name)
    try:
        template = stage.state_shapes(config, earlier_weights)
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        template = sharding.with_shardings(template, jax.tree.map(lambda _: here, template))
        wanted = fingerprint(stage, config, earlier_weights)
        step = checkpoint.chosen_step(checkpoints, checkpoints.newest_sound_step(), config)
        return checkpoints.restore(step, "state", template, wanted, for_training=False)
    finally:
        checkpoints.close()


def _denoiser(
    config: Config, pairs: list[names.Pair], state: TrainState, autoencoder: dict[str, np.ndarray]
) -> dict:
    scale = float(state.variables["scale"])

    def theirs(params) -> dict[str, np.ndarray]:
        variables = {"params": jax.device_get(params)}
        return translate.to_theirs(torch_weights.scale_condition(variables, scale), pairs)

    tensors = {f"model.diffusion_model.{k}": v for k, v in theirs(state.params).items()}
    tensors |= {names.averaged(k): v for k, v in theirs(state.ema_params).items()}
    tensors["model_ema.decay"] = np.asarray(config.diffusion.ema_decay, np.float32)
    tensors["model_ema.num_updates"] = np.asarray(state.step, np.int32)
    tensors |= _schedule(noise_schedule(config))
    if scale != 1.0:
        tensors["scale_factor"] = np.asarray(scale, np.float32)
    for prefix in (torch_weights.FIRST_STAGE, torch_weights.CONDITION):  # one network, as published
        tensors |= {prefix + name: value for name, value in autoencoder.items()}
    return tensors


def _schedule(alpha_bar: np.ndarray) -> dict[str, np.ndarray]:
    """The buffers that latent-diffusion keeps of its schedule (Ho et al. 2020, equations 4, 7)."""
    before = np.append(1.0, alpha_bar[:-1])
    alpha = alpha_bar / before
    beta = 1.0 - alpha
    variance = beta * (1.0 - before) / (1.0 - alpha_bar)
    buffers = {
        "betas": beta,
        "alphas_cumprod": alpha_bar,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": np.sqrt(alpha_bar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1.0 - alpha_bar),
        "log_one_minus_alphas_cumprod": np.log(1.0 - alpha_bar),
        "sqrt_recip_alphas_cumprod": np.sqrt(1.0 / alpha_bar),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1.0 / alpha_bar - 1.0),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": beta * np.sqrt(before) / (1.0 - alpha_bar),
        "posterior_mean_coef2": (1.0 - before) * np.sqrt(alpha) / (1.0 - alpha_bar),
    }
    return {name: value.astype(np.float32) for name, value in buffers.items()}


def _batch_counts(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's count of batches beside each running mean; only a loader looks for it."""
    return {
        name.removesuffix("running_mean") + "num_batches_tracked": np.zeros((), np.int64)
        for name in tensors
        if name.endswith("running_mean")
    }
