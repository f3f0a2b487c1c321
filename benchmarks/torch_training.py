"""A stage's training step in PyTorch: networks and losses of the parity tests.

float32 uses TF32 on NVIDIA GPUs, as XLA does; bfloat16 is autocast. Adam is PyTorch's fused one.
"""

import contextlib
import copy
import sys
from pathlib import Path

import flax
import ml_collections
import numpy as np
import torch
from torch import nn

from diffad_jax.errors import UserError
from diffad_jax.methods.contract import Stage
from diffad_jax.methods.diffad import autoencoder, latent_diffusion, networks

sys.path.append(str(Path(__file__).parents[1] / "tests" / "parity"))  # as pytest does

import torch_losses
import torch_reference

# What the losses of the parity tests are written for.
_COVERED = {
    "autoencoder.adversarial_weight": (0.0,),
    "autoencoder.input": ("image",),
    "autoencoder.signed": (False,),
    "autoencoder.perceptual": ("lpips", "none"),
    "diffusion.condition_noise": ("independent",),
    "reconstruction.condition": ("clean",),
    "reconstruction.interpolation": ((0.5,),),
    "training.gradient_clip": (0.0,),
    "training.remat": (False,),
}


def device_for(platform: str) -> torch.device:
    """PyTorch's name of the device that JAX uses.

    Raises:
      UserError: this PyTorch has no such device.
    """
    if platform == "gpu" and torch.cuda.is_available():
        return torch.device("cuda")
    if platform == "cpu":
        return torch.device("cpu")
    raise UserError(f"this PyTorch ({torch.__version__}) does not see the {platform} that JAX uses")


class Training:
    """A stage in training on one batch, with fresh draws at each step.

    Args:
      stage: a module of ``diffad_jax.stages``.
      config: the whole config.
      params, variables, frozen, batch: ours, as host arrays.
      platform: JAX's, ``cpu`` or ``gpu``.
      seed: of the draws.

    Raises:
      UserError: the config asks for what the losses do not cover, or PyTorch lacks the device.
    """

    def __init__(
        self,
        stage: Stage,
        config: ml_collections.FrozenConfigDict,
        params: dict,
        variables: dict,
        frozen: dict,
        batch: dict[str, np.ndarray],
        platform: str,
        seed: int,
    ):
        _check(config)
        torch.manual_seed(seed)  # dropout takes no generator
        self.device, self.config = device_for(platform), config
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")  # TF32
        self.images = {
            k: torch.tensor(v).to(self.device).movedim(-1, 1).contiguous() for k, v in batch.items()
        }
        size = len(batch["image"])
        height, width, channels = networks.latent_shape(config)
        self.latents = (size, channels, height, width)
        self.frozen = {
            name: self._network(getattr(networks, name)(config), {"params": weights})
            for name, weights in _parameters(frozen).items()
        }
        for network in self.frozen.values():
            network.eval().requires_grad_(False)
        owner = variables if stage is latent_diffusion.STAGE else frozen.get("denoiser", {})
        self.scale = float(owner.get("scale", 1.0))
        params = params["autoencoder"] if stage is autoencoder.STAGE else params
        statistics = {k: v for k, v in variables.items() if k == "batch_stats"}
        module = getattr(networks, stage.name)(config)
        self.model = self._network(module, {"params": params, **statistics})
        self.average = copy.deepcopy(self.model) if stage is latent_diffusion.STAGE else None
        self.loss = getattr(self, f"_{stage.name}")
        self.optimizer = _optimizer(stage, config, self.model)
        self.accumulation = stage.settings(config).accumulation
        self.steps, self.marked = 0, False

    def _network(self, module: object, variables: dict) -> nn.Module:
        network = torch_reference.build(module)
        torch_reference.load(network, flax.traverse_util.flatten_dict(variables))
        return network.to(self.device)

    def compile(self) -> None:
        """Marks the networks; ``run`` compiles them in the first step that is to be compiled."""
        self.marked = True
        for network in (self.model, *self.frozen.values()):
            parts = [network[k] for k in ("encoder", "decoder") if k in network]
            for part in parts or [network]:
                part.compile()

    def run(self, steps: int, *, compiled: bool) -> float:
        """Takes ``steps`` steps, with the networks compiled or not, and waits for the last loss."""
        loss = torch.zeros(())
        # Importing the compiler takes seconds: left out where nothing was marked.
        eager = self.marked and not compiled
        with torch.compiler.set_stance("force_eager") if eager else contextlib.nullcontext():
            for _ in range(steps):
                loss = self._step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return float(loss)

    def _step(self) -> torch.Tensor:
        low = self.config.training.compute_dtype == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            loss = self.loss()
        (loss / self.accumulation).backward()
        self.steps += 1
        if self.steps % self.accumulation == 0:
            self._update()
        return loss.detach()

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            updates, decay = self.steps // self.accumulation, self.config.diffusion.ema_decay
            torch_losses.move_average(self.average, self.model, updates, decay)

    def _autoencoder(self) -> torch.Tensor:
        c, image = self.config.autoencoder, self._pixels("image")
        made, kl = torch_losses.copy(self.model, image, self._noise())
        likeness = torch_losses.likeness(c, self.frozen.get("perceptual"), image, made)
        return likeness + c.kl_weight * kl

    def _denoiser(self) -> torch.Tensor:
        c, count = self.config.diffusion, self.latents[:1]
        t, s = (
            torch.randint(*drawn_from, count, device=self.device)
            for drawn_from in (c.trained_timesteps, c.condition_timesteps)
        )
        draws = self._noise(), t, self._noise(), s, self._noise()
        images = self._pixels("image"), self._pixels("augmented_image"), self.images["anomaly_mask"]
        return torch_losses.denoising(
            self.config, self.frozen["autoencoder"], self.model, self.scale, *images, draws
        )

    def _segmenter(self) -> torch.Tensor:
        mask = self.images["anomaly_mask"][:, 0].long()
        networks = self.frozen["autoencoder"], self.frozen["denoiser"], self.model
        images = self._pixels("augmented_image"), mask
        return torch_losses.segmentation(self.config, *networks, self.scale, *images, self._noise())

    def _pixels(self, name: str) -> torch.Tensor:
        return self.images[name].float() / 255.0

    def _noise(self) -> torch.Tensor:
        return torch.randn(self.latents, device=self.device)

    def reset_peak_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def peak_memory_bytes(self) -> int | None:
        """Of tensors since ``reset_peak_memory``; None on a CPU, where PyTorch does not count."""
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None


def _parameters(frozen: dict) -> dict:
    """{network: its parameters}: the perceptual one's come bare, a stage's with its variables."""
    return {k: v if k == "perceptual" else v["params"] for k, v in frozen.items()}


def _optimizer(
    stage: Stage, config: ml_collections.FrozenConfigDict, model: nn.Module
) -> torch.optim.Optimizer:
    c, make = stage.settings(config), torch.optim.Adam
    options: dict = {"lr": c.learning_rate, "fused": True}
    if stage is autoencoder.STAGE:
        options["betas"] = tuple(c.betas)
    elif stage is latent_diffusion.STAGE:
        make, options["weight_decay"] = torch.optim.AdamW, c.weight_decay
    return make(model.parameters(), **options)


def _check(config: ml_collections.FrozenConfigDict) -> None:
    for field, values in _COVERED.items():
        section, name = field.split(".")
        if config[section][name] not in values:
            raise UserError(f"not written for config.{field} = {config[section][name]!r}")
