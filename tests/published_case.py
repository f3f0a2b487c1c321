"""A tiny detector of the published kind, in files as the published code writes them."""

import flax.traverse_util
import jax
import ml_collections
import numpy as np

from diffad_jax.convert import names, torch_file, translate
from diffad_jax.methods.diffad import networks
from diffad_jax.models.discriminator import Discriminator


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def nothing(name: str) -> bool:
    """The ``known`` of ``translate.to_ours`` where no other name may be there."""
    return False


def variables(pairs, seed=0) -> dict:
    """Random weights; variances are positive."""
    rng = np.random.default_rng(seed)
    values = {p.path: rng.standard_normal(p.shape).astype(np.float32) / 4 for p in pairs}
    return flax.traverse_util.unflatten_dict(
        {path: v**2 + 0.5 if path[-1] == "var" else v for path, v in values.items()}
    )


def published(tiny_config) -> ml_collections.ConfigDict:
    """The published choices at a tiny size."""
    tiny_config.autoencoder.patch_size = 1
    tiny_config.autoencoder.linear_skip = tiny_config.diffusion.linear_skip = False
    tiny_config.autoencoder.multipliers = tiny_config.diffusion.multipliers = (1, 2)
    tiny_config.autoencoder.num_res_blocks = tiny_config.diffusion.num_res_blocks = 1
    tiny_config.diffusion.attention_downsampling = (2,)
    tiny_config.segmentation.multipliers = (1, 2)
    tiny_config.autoencoder.latent_channels = 4
    tiny_config.diffusion.prediction = "epsilon"
    tiny_config.diffusion.latent_scale = 1.0
    tiny_config.autoencoder.adversarial_weight = 0.5
    tiny_config.autoencoder.discriminator_channels = 4
    tiny_config.segmentation.patch_size = 1
    tiny_config.segmentation.input = "images"
    tiny_config.normal_level.floor = 0.0
    return tiny_config


def published_files(config, folder) -> dict:
    """Random weights in files as the published code writes them."""
    pairs = names.autoencoder(networks.autoencoder(config))
    autoencoder = translate.to_theirs(variables(pairs), pairs)
    gan = names.discriminator(Discriminator(channels=4))
    discriminator = translate.to_theirs(variables(gan), gan)
    beside = {f"loss.discriminator.{k}": v for k, v in discriminator.items()}
    beside |= {"loss.logvar": np.zeros((), np.float32)}
    beside |= {"loss.perceptual_loss.lin0.model.1.weight": np.zeros((1, 64, 1, 1), np.float32)}
    beside |= {"loss.discriminator.main.3.num_batches_tracked": np.array(7)}
    torch_file.write(folder / "autoencoder.ckpt", autoencoder | beside)

    pairs = names.denoiser(networks.denoiser(config))
    latest, average = (translate.to_theirs(variables(pairs, seed), pairs) for seed in (1, 2))
    torch_file.write(
        folder / "denoiser.ckpt",
        {f"model.diffusion_model.{k}": v for k, v in latest.items()}
        | {names.averaged(k): v for k, v in average.items()}
        | {"model_ema.decay": np.array(0.9999, np.float32)}
        | {"model_ema.num_updates": np.array(9, np.int32)}
        | {f"first_stage_model.{k}": v for k, v in autoencoder.items()}
        | {f"cond_stage_model.{k}": v for k, v in autoencoder.items()}
        | {"betas": np.zeros(1000, np.float32)},
    )
    pairs = names.segmenter(networks.segmenter(config))
    segmenter = translate.to_theirs(variables(pairs, 3), pairs)
    segmenter["encoder_segment.block1.1.num_batches_tracked"] = np.array(7)
    torch_file.write(folder / "segmenter.pckl", segmenter, bare=True)
    return {"autoencoder": autoencoder, "latest": latest, "average": average, "seg": segmenter}
