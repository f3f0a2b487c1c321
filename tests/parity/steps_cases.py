"""Ten training steps of each stage, small: configs, first weights, batches and random draws.

Weights and pixels come from a formula (see ``parity_cases``). The draws are part of a stage's
contract: its step's key is fold_in(state.key, step), split in the order that the functions below
name, so PyTorch can be given the very same numbers.
"""

import dataclasses
import functools
import types
from unittest import mock

import flax
import jax
import ml_collections
import numpy as np
from parity_cases import formula_uniform, formula_weight, relative_error

from configs import mvtec
from diffad_jax.methods.diffad import autoencoder, latent_diffusion, networks, segmentation
from diffad_jax.methods.train_state import Params, TrainState
from diffad_jax.models.lpips import Lpips
from diffad_jax.types import Batch

NUM_STEPS = 10
PERCEPTUAL = Lpips(channels=4)  # stands for the one at VGG16's width
TOLERANCE = 1e-3  # of metrics, of parameters, and in the golden tests of their change, relative
# Shrunk, and with rates, decays and averages large enough for ten steps to show them.
SMALL = {
    "image_size": 16,
    "autoencoder.channels": 8,
    "autoencoder.multipliers": (1,),
    "autoencoder.num_res_blocks": 0,
    "autoencoder.dropout": 0.0,
    "autoencoder.kl_weight": 1e-3,
    "autoencoder.discriminator_channels": 8,
    "autoencoder.discriminator_layers": 2,
    "autoencoder.batch_size": 2,
    "autoencoder.accumulation": 1,
    "autoencoder.learning_rate": 1e-3,
    "autoencoder.adversarial_start": 4,
    "diffusion.channels": 8,
    "diffusion.multipliers": (1,),
    "diffusion.num_res_blocks": 1,
    "diffusion.attention_downsampling": (1,),
    "diffusion.head_channels": 8,
    "diffusion.latent_scale": 1.25,
    "diffusion.batch_size": 4,
    "diffusion.learning_rate": 2e-3,
    "diffusion.weight_decay": 1.0,
    "diffusion.ema_decay": 0.5,  # reached at the eighth step
    "reconstruction.training_steps": 2,
    "reconstruction.clip": True,  # as the PyTorch twin does
    "segmentation.channels": 4,
    "segmentation.multipliers": (1, 2),
    "segmentation.batch_size": 2,
}


@dataclasses.dataclass(frozen=True)
class StepsCase:
    """A stage in training.

    Attributes:
      name: of the golden file.
      stage: a module of ``diffad_jax.stages``.
      changes: to the published config, besides ``SMALL``.
      golden: the parameters that the golden file holds, as paths in ``parameters``.
    """

    name: str
    stage: types.ModuleType
    changes: dict
    golden: tuple[str, ...]

    @functools.cached_property
    def config(self) -> ml_collections.FrozenConfigDict:
        config = mvtec.get_config()
        for section in ("autoencoder", "diffusion", "segmentation"):
            config[section].steps = NUM_STEPS
        for field, value in (SMALL | self.changes).items():
            section, _, name = field.rpartition(".")
            (config[section] if section else config)[name] = value
        return ml_collections.FrozenConfigDict(config)

    @functools.cached_property
    def frozen(self) -> dict[str, Params]:
        """Weights of the stages before, or of the perceptual network."""
        pixels = jax.ShapeDtypeStruct((1, self.config.image_size, self.config.image_size, 3), float)
        if self.config.autoencoder.perceptual == "none" and self.stage is autoencoder:
            return {}
        if self.stage is autoencoder:
            shapes = jax.eval_shape(PERCEPTUAL.init, jax.random.key(0), pixels, pixels)
            return {"perceptual": self._filled(shapes["params"])}
        network = networks.autoencoder(self.config)
        weights = {
            "autoencoder": self._filled(jax.eval_shape(network.init, jax.random.key(0), pixels))
        }
        if self.stage is segmentation:
            init = functools.partial(latent_diffusion.init_state, self.config)
            state = jax.eval_shape(init, jax.random.key(0), weights, self.batch(0))
            weights["denoiser"] = self._filled(latent_diffusion.weights(state))
        return weights

    def first_state(self) -> TrainState:
        init = functools.partial(self.stage.init_state, self.config)
        state = jax.eval_shape(init, jax.random.key(0), self.frozen, self.batch(0))
        return state.replace(
            step=np.int32(0),
            key=np.asarray(jax.random.key_data(jax.random.key(0))),
            params=self._filled(state.params),
            opt_state=jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state.opt_state),
            ema_params=self._filled(state.ema_params),
            variables=self._filled(state.variables),
        )

    def _filled(self, shapes: Params) -> Params:
        def fill(path, leaf):
            names = tuple(entry.key for entry in path)
            if names == ("scale",):  # of the latent
                return np.float32(self.config.diffusion.latent_scale)
            return formula_weight(names, leaf.shape)

        return jax.tree_util.tree_map_with_path(fill, shapes)

    def batch(self, step: int) -> Batch:
        """Noise, and more noise inside a rectangle."""
        size = self.config.image_size
        shape = (self.stage.STAGE.settings(self.config).batch_size, size, size, 3)
        image, texture = (
            np.round(255 * formula_uniform(f"{name} {step}", shape)).astype(np.uint8)
            for name in ("image", "texture")
        )
        mask = np.zeros((*shape[:3], 1), np.uint8)
        mask[:, 3 : 6 + step % 4, 4:12] = 1
        return {
            "image": image,
            "augmented_image": np.where(mask, texture, image),
            "anomaly_mask": mask,
        }

    def run(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Ten of the stage's own steps: {metric: [10]}, and the parameters after them by path."""
        step_fn = jax.jit(functools.partial(self.stage.train_step, config=self.config))
        state, history = self.first_state(), []
        with mock.patch.object(networks, "perceptual", lambda config: PERCEPTUAL):
            for step in range(NUM_STEPS):
                state, metrics = step_fn(state, self.frozen, self.batch(step))
                history.append(metrics)
        metrics = {name: np.array([m[name] for m in history]) for name in history[0]}
        return metrics, parameters(state)


def parameters(state: TrainState) -> dict[str, np.ndarray]:
    """{path with slashes: array} of the trained and of the averaged parameters."""
    trees = {"params": state.params, "ema_params": state.ema_params}
    flat = flax.traverse_util.flatten_dict(trees, sep="/")
    return {path: np.asarray(value) for path, value in flat.items()}


def stage_1_draws(case: StepsCase, step: int) -> list[np.ndarray]:
    """The noise of z ~ q(z|x), for the autoencoder's step and for the discriminator's."""
    shape = _latents(case)
    for_steps = jax.random.split(_step_key(step))
    return [np.asarray(jax.random.normal(jax.random.split(key, 3)[0], shape)) for key in for_steps]


def stage_2_draws(case: StepsCase, step: int) -> tuple[np.ndarray, ...]:
    """The noise of z ~ q(z|x), t, its noise, s, its noise."""
    shape, timesteps = _latents(case), case.config.diffusion.timesteps
    keys = jax.random.split(_step_key(step), 5)
    posterior, noise, condition_noise = (
        np.asarray(jax.random.normal(keys[i], shape)) for i in (0, 2, 4)
    )
    t, s = (np.asarray(jax.random.randint(keys[i], shape[:1], 0, timesteps)) for i in (1, 3))
    return posterior, t, noise, s, condition_noise


def stage_3_draws(case: StepsCase, step: int) -> np.ndarray:
    """The noise from which the reconstructions start."""
    return np.asarray(jax.random.normal(jax.random.split(_step_key(step), 3)[0], _latents(case)))


def _step_key(step: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(0), step)


def _latents(case: StepsCase) -> tuple[int, ...]:
    batch_size = case.stage.STAGE.settings(case.config).batch_size
    return (batch_size, *networks.latent_shape(case.config))


def relative_error_of_change(first, ours, theirs) -> float:
    """max |ours - theirs| / max |theirs - first|: stricter than relative to the values."""
    return relative_error(ours - first.astype(np.float64), theirs - first.astype(np.float64))


_AUTOENCODER = (
    "params/autoencoder/encoder/conv_in/kernel",
    "params/autoencoder/decoder/norm_out/scale",
    "params/autoencoder/decoder/conv_out/kernel",
    "params/discriminator/conv_in/kernel",
    "params/discriminator/block_1/norm/bias",
)
STEPS_CASES = (
    StepsCase("steps_autoencoder", autoencoder, {}, _AUTOENCODER),
    StepsCase(
        "steps_autoencoder_accumulating",
        autoencoder,
        {
            "autoencoder.accumulation": 2,
            "autoencoder.adversarial_start": 2,
            "autoencoder.perceptual": "none",
        },
        _AUTOENCODER,
    ),
    StepsCase(
        "steps_denoiser",
        latent_diffusion,
        {},
        ("params/conv_in/kernel", "params/conv_out/kernel", "ema_params/conv_out/kernel"),
    ),
    StepsCase(
        "steps_segmenter",
        segmentation,
        {},
        ("params/down_0/conv_0/kernel", "params/down_1/norm_0/scale", "params/conv_out/kernel"),
    ),
    # As in configs/mvtec_small.py; the denoiser's loss on v, and its weight, as well.
    StepsCase(
        "steps_denoiser_v",
        latent_diffusion,
        {
            "diffusion.prediction": "v",
            "diffusion.anomaly_weight": 5.0,
            "autoencoder.patch_size": 2,
        },
        ("params/conv_in/kernel", "params/conv_out/kernel", "ema_params/conv_out/kernel"),
    ),
    StepsCase(
        "steps_segmenter_small",
        segmentation,
        {
            "autoencoder.patch_size": 2,
            "diffusion.prediction": "v",
            "reconstruction.spacing": "trailing",
            "segmentation.input": "differences",
            "segmentation.patch_size": 2,
        },
        ("params/down_0/conv_0/kernel", "params/down_1/norm_0/scale", "params/conv_out/kernel"),
    ),
)
